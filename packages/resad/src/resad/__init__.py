"""ResAD (NeurIPS 2024): class-generalisable anomaly detection from residual features."""

__version__ = "0.1.0"
