"""Attribution: how much each position of an input adds to the logit of a class."""
