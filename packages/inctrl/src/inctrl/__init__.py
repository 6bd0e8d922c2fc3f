"""InCTRL (CVPR 2024, arXiv 2403.06495) and WinCLIP: few-shot anomaly detection by in-context residuals."""

__version__ = "0.1.0"
