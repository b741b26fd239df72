"""One module per verb: each combines the packages below to one function of the Python interface."""
