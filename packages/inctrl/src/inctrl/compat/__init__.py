"""The authors' file formats and command line."""
