"""The metrics as each reference computes them, to compare with its published numbers.

The standard definitions are in `adcommon.metrics`. Where a reference's function raises, these return NaN and
warn with the reason.
"""

from adcommon.metrics.reference.inctrl import InCTRLResult, WinCLIPResult, inctrl_metrics, winclip_metrics
from adcommon.metrics.reference.mvtec3d import mvtec3d_evaluation_aupro_100
from adcommon.metrics.reference.rankings import mirrored_auroc
from adcommon.metrics.reference.realnet import RealNetResult, realnet_metrics, realnet_pro
from adcommon.metrics.reference.recontrast import (
    RecontrastBestF1,
    recontrast_aupro,
    recontrast_aupro_per_image,
    recontrast_aupro_pooled,
    recontrast_best_f1,
)
from adcommon.metrics.reference.resad import ResADResult, resad_aupro, resad_metrics
from adcommon.metrics.reference.uniad import UniADResult, uniad_metrics

__all__ = [
    "InCTRLResult",
    "RealNetResult",
    "RecontrastBestF1",
    "ResADResult",
    "UniADResult",
    "WinCLIPResult",
    "inctrl_metrics",
    "mirrored_auroc",
    "mvtec3d_evaluation_aupro_100",
    "realnet_metrics",
    "realnet_pro",
    "recontrast_aupro",
    "recontrast_aupro_per_image",
    "recontrast_aupro_pooled",
    "recontrast_best_f1",
    "resad_aupro",
    "resad_metrics",
    "uniad_metrics",
    "winclip_metrics",
]
