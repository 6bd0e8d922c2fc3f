"""The paper's own results, to stand beside ours; no torch here.

Source: tables III to V of the paper; one model per category of MVTec AD, means over its 15 categories.
"""

from adcommon.results.card import Paper

PAPER = Paper(
    "PaDiM",
    "Defard, Setkov, Loesch, Audigier: PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection "
    "and Localization, ICPR workshops 2020, https://arxiv.org/abs/2011.08785",
)

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "mvtec": {"mean": {"image_auroc": 0.953, "pixel_auroc": 0.975, "aupro": 0.921}},
    "mvtec_resnet18": {"mean": {"pixel_auroc": 0.967, "aupro": 0.901}},
}
"""By recipe and category, fractions."""
