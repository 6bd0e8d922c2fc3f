"""ResAD (NeurIPS 2024): class-generalisable anomaly detection from residual features.

Not implemented yet: this package only reserves its place in the workspace.
"""

__version__ = "0.1.0"
