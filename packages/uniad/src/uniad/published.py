"""The authors' own results, to stand beside ours; no torch here.

Source: the tables in the authors' repository (github.com/zhiyuanyou/UniAD). MVTec AD: one model for all
categories, one GPU, batch 8, 1000 epochs; the run on 8 GPUs (batch 64, the same learning rate, an eighth of
the steps) gave 0.967 and 0.968, the paper has 0.965 and 0.968. CIFAR-10: 8 GPUs.
"""

from adcommon.data import DATASETS
from adcommon.results.card import Paper
from adcommon.results.paper import PaperTable
from uniad.recipes import CIFAR10, CIFAR10_SPLITS, MVTEC

PAPER = Paper(
    "UniAD",
    "You, Cui, Shen, Yang, Lu, Zheng, Le: A Unified Model for Multi-class Anomaly Detection, NeurIPS 2022, "
    "https://arxiv.org/abs/2206.03687",
)

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "mvtec": {"mean": {"image_auroc": 0.976, "pixel_auroc": 0.970}},
    "cifar10": {
        "01234": {"image_auroc": 0.844},
        "56789": {"image_auroc": 0.796},
        "02468": {"image_auroc": 0.930},
        "13579": {"image_auroc": 0.891},
        "mean": {"image_auroc": 0.865},
    },
}
"""By recipe and category, fractions; "mean" is over the categories."""

TABLES = {
    "mvtec": PaperTable(
        title="MVTec AD, one model for all categories (the authors' repository, one GPU)",
        command="uniad-train",
        flags=("--recipe", "mvtec"),
        seed=MVTEC.seed,
        data={"mvtec": DATASETS["mvtec"].categories},
        protocol="uniad",
        metrics=("image_auroc", "pixel_auroc"),
        numbers={("mvtec", None): PUBLISHED["mvtec"]},
    ),
    "cifar10": PaperTable(
        title="CIFAR-10, five normal classes at a time",
        command="uniad-train",
        flags=("--recipe", "cifar10"),
        each={"category": CIFAR10_SPLITS},
        seed=CIFAR10.seed,
        data={"cifar10": CIFAR10_SPLITS},
        protocol="uniad",
        metrics=("image_auroc",),
        numbers={("cifar10", None): PUBLISHED["cifar10"]},
    ),
}
"""What `ad reproduce uniad` fills again."""
