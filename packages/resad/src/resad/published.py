"""The authors' own results, to stand beside ours; no torch here.

Source: README of the authors' repository (github.com/xcyao00/ResAD): 4 references, Wide-ResNet-50-2, about 60
epochs. Reruns by users in its issue tracker were lower on VisA (image 75 to 81, pixel 87 to 96).
"""

from adcommon.data import DATASETS
from adcommon.results.card import Paper
from adcommon.results.paper import PaperTable
from resad.recipes import PAPER as RECIPE
from resad.recipes import SETTINGS, split_setting

PAPER = Paper(
    "ResAD",
    "Yao, Chen, Gao, Zhai, Zhang: ResAD: A Simple Framework for Class Generalizable Anomaly Detection, "
    "NeurIPS 2024, https://arxiv.org/abs/2410.20047",
)

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "visa_to_mvtec": {"mean": {"image_auroc": 0.910, "pixel_auroc": 0.960}},
    "mvtec_to_visa": {"mean": {"image_auroc": 0.894, "pixel_auroc": 0.968}},
    "mvtec_to_btad": {"mean": {"image_auroc": 0.947, "pixel_auroc": 0.972}},
    "mvtec_to_mvtec3d": {"mean": {"image_auroc": 0.720, "pixel_auroc": 0.977}},
}
"""By setting, fractions; means over categories of the merged scores."""


def _table(setting: str) -> PaperTable:
    seen, unseen = split_setting(setting)
    return PaperTable(
        title=f"{DATASETS[unseen].title} after training on {DATASETS[seen].title}, 4 references",
        command="resad-train",
        flags=("--recipe", "paper", "--setting", setting),
        seed=RECIPE.seed,
        data={name: DATASETS[name].categories for name in (seen, unseen)},
        protocol="resad",
        metrics=("image_auroc", "pixel_auroc"),
        numbers={(unseen, 4): PUBLISHED.get(setting, {})},
    )


TABLES = {setting: _table(setting) for setting in SETTINGS}
"""What `ad reproduce resad` fills again."""
