"""Metrics of visual anomaly detection: exact, from the order of the scores only.

NumPy arrays in, torch tensors of any device accepted. A paper's own variants are in the
`metrics.py` of its package, bounded memory in `adcommon.metrics.streaming`, MVTec LOCO's saturated overlap in
`adcommon.metrics.spro`.
"""

from adcommon.metrics.accumulator import PixelMetrics, PixelResult
from adcommon.metrics.bootstrap import auroc_difference_interval, auroc_interval
from adcommon.metrics.curves import Curve, ImageResult, auroc, average_precision, f1_max, image_metrics
from adcommon.metrics.pro import aupro

__all__ = [
    "Curve",
    "ImageResult",
    "PixelMetrics",
    "PixelResult",
    "aupro",
    "auroc",
    "auroc_difference_interval",
    "auroc_interval",
    "average_precision",
    "f1_max",
    "image_metrics",
]
