"""What stands around a paper's own training loop: the run's folder, devices, resume, settings."""
