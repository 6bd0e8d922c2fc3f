"""The papers' own results, to stand beside ours; no torch here.

Source: table 1 of PatchCore (one memory per category of MVTec AD, means over its 15 categories, three sizes
of coreset), and the abstract of AnomalyDINO (one normal image).
"""

from adcommon.results.card import Paper

PAPER = Paper(
    "PatchCore",
    "Roth, Pemula, Zepeda, Schölkopf, Brox, Gehler: Towards Total Recall in Industrial Anomaly Detection, "
    "CVPR 2022, https://arxiv.org/abs/2106.08265; with tokens of a transformer: Damm, Laszkiewicz, Lederer, "
    "Fischer: AnomalyDINO, WACV 2025, https://arxiv.org/abs/2405.14529",
)

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "mvtec_25": {"mean": {"image_auroc": 0.991, "pixel_auroc": 0.981, "aupro": 0.934}},
    "mvtec": {"mean": {"image_auroc": 0.990, "pixel_auroc": 0.981, "aupro": 0.935}},
    "mvtec_1": {"mean": {"image_auroc": 0.990, "pixel_auroc": 0.980, "aupro": 0.931}},
    "anomalydino": {"mean": {"image_auroc": 0.966}},
}
"""By recipe and category, fractions."""
