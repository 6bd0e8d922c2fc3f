"""Every problem of a dataset, found before work starts."""
