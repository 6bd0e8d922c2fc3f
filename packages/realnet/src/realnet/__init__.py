"""RealNet (CVPR 2024): feature selection with realistic synthetic anomalies."""

__version__ = "0.1.0"
