"""ReContrast: anomaly detection via contrastive reconstruction (NeurIPS 2023, arXiv 2306.02602)."""

__version__ = "0.1.0"
