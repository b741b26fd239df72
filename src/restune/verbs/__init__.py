"""One module a verb: each wires the rooms below together and reads like the recipe it is."""
