"""Preparers: one module per dataset, each with one function `prepare(data_folder, save_folder, ...)`."""
