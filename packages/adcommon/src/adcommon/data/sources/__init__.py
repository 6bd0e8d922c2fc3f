"""Where a dataset's images lie, and which of them train and test."""
