"""Many runs: averages of their weights, and studies of hyper-parameters."""
