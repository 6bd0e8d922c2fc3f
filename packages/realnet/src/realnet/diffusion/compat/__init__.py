"""The authors' file formats."""
