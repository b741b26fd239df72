"""What hostile files are made of, a module a kind."""
