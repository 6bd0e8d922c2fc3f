"""Rankings and overlaps as some references compute them, shared by several papers' metrics."""
