"""RealNet (CVPR 2024): feature selection with realistic synthetic anomalies.

Not implemented yet: this package only reserves its place in the workspace.
"""

__version__ = "0.1.0"
