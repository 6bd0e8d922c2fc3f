"""What five methods of visual anomaly detection share; import from its modules."""

__version__ = "0.1.0"
