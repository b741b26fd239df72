"""Every form DATA may take, one module a form."""
