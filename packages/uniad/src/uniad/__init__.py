"""UniAD (NeurIPS 2022): one transformer that detects anomalies in all classes.

Not implemented yet: this package only reserves its place in the workspace.
"""

__version__ = "0.1.0"
