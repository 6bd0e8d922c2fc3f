"""UniAD: one transformer that detects anomalies in all classes (NeurIPS 2022, arXiv 2206.03687)."""

__version__ = "0.1.0"
