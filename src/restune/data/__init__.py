"""From a name on the command line to the tensors a network reads."""
