"""The authors' own results, to stand beside ours; no torch here.

Source: the table in the authors' repository (github.com/cnulab/RealNet), means over the categories of models
that were chosen, epoch by epoch, on the test set; MVTec AD with two decimals as the paper is quoted for
(arXiv 2403.05897), its PRO by the paper's own definition.
"""

from adcommon.data import DATASETS
from adcommon.results.card import Paper
from adcommon.results.paper import PaperTable
from realnet.recipes import RECIPES

PAPER = Paper(
    "RealNet",
    "Zhang, Xu, Zhou: RealNet: A Feature Selection Network with Realistic Synthetic Anomaly for Anomaly "
    "Detection, CVPR 2024, https://arxiv.org/abs/2403.05897",
)

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "mvtec": {"mean": {"image_auroc": 0.9965, "pixel_auroc": 0.9903, "pro": 0.9307}},
    "mpdd": {"mean": {"image_auroc": 0.963, "pixel_auroc": 0.982}},
    "btad": {"mean": {"image_auroc": 0.961, "pixel_auroc": 0.979}},
    "visa": {"mean": {"image_auroc": 0.978, "pixel_auroc": 0.988}},
}
"""By recipe and category, fractions; "mean" is over the categories."""

TABLES = {
    name: PaperTable(
        title=f"{DATASETS[name].title}, one model per category, chosen on the test set",
        command="realnet-train",
        flags=("--recipe", name),
        each={"category": DATASETS[name].categories},
        seed=RECIPES[name].seed,
        data={name: DATASETS[name].categories},
        protocol="realnet",
        selection="best-on-test",
        metrics=("image_auroc", "pixel_auroc", "pro"),
        numbers={(name, None): numbers},
    )
    for name, numbers in PUBLISHED.items()
}
"""What `ad reproduce realnet` fills again: the last of the paper's stages, given generated images
(`-- --sdas-dir DIR`)."""
