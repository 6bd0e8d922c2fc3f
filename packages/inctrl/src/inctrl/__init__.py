"""InCTRL (CVPR 2024) and WinCLIP: few-shot generalist anomaly detection by in-context residuals.

Not implemented yet: this package only reserves its place in the workspace.
"""

__version__ = "0.1.0"
