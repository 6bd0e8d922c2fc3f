"""The paper's results, to stand beside ours; no torch here.

Source: the paper's main table, image AUROC, trained on MVTec AD (for MVTec AD itself on VisA), mean and
deviation over three draws of references; ViT-B-16-plus-240. Only columns that could be confirmed are here.
"""

from adcommon.data import DATASETS
from adcommon.results.card import Paper
from adcommon.results.paper import PaperTable
from inctrl.recipes import RECIPES

PAPER = Paper(
    "InCTRL",
    "Zhu, Pang: Toward Generalist Anomaly Detection via In-context Residual Learning with Few-shot Sample "
    "Prompts, CVPR 2024, https://arxiv.org/abs/2403.06495",
)

SHOWN_SHOTS = 4
PUBLISHED: dict[str, dict[int, tuple[float, float]]] = {
    "elpv": {2: (0.839, 0.003), 4: (0.846, 0.011), 8: (0.872, 0.013)},
    "aitex": {2: (0.761, 0.029), 4: (0.790, 0.018), 8: (0.806, 0.036)},
    "visa": {2: (0.858, 0.022), 4: (0.877, 0.019), 8: (0.887, 0.021)},
    "mvtec": {2: (0.940, 0.015), 4: (0.945, 0.018), 8: (0.953, 0.013)},
}
"""By dataset and shots: mean and deviation of the image AUROC, fractions."""

MEANS = {
    recipe: {
        "mean": {
            f"{dataset} {SHOWN_SHOTS}-shot image_auroc": by_shots[SHOWN_SHOTS][0]
            for dataset, by_shots in PUBLISHED.items()
            if (dataset == "mvtec") == (recipe == "visa")
        }
    }
    for recipe in ("mvtec", "visa")
}
"""The same by recipe, for the list of them."""


def _table(recipe: str, title: str, tested: tuple[str, ...]) -> PaperTable:
    values = RECIPES[recipe]
    found = {values.dataset: DATASETS[values.dataset].categories}
    for name in tested:
        dataset, _, category = name.partition("/")
        found[dataset] = (
            *found.get(dataset, ()),
            *((category,) if category else DATASETS[dataset].categories),
        )
    return PaperTable(
        title=f"{title} after training on {DATASETS[values.dataset].title}",
        command="inctrl-train",
        flags=("--recipe", recipe, "--test-datasets", *tested),
        each={"shots": tuple(map(str, values.shots))},
        seed=values.seed,
        data=found,
        protocol="standard",
        metrics=("image_auroc",),
        numbers={
            (dataset, shots): {
                "mean" if len(found[dataset]) > 1 else found[dataset][0]: {
                    "image_auroc": mean,
                    "image_auroc_std": deviation,
                }
            }
            for dataset, by_shots in PUBLISHED.items()
            if dataset in found and dataset != values.dataset
            for shots, (mean, deviation) in by_shots.items()
        },
    )


TABLES = {
    "mvtec": _table("mvtec", "VisA, ELPV and AITEX", ("visa", "elpv/elpv", "aitex")),
    "mvtec_others": _table("mvtec", "Further datasets", ("ksdd", "brain_mri", "head_ct", "mnist", "cifar10")),
    "mvtec_multiclass": _table("mvtec", "Several normal classes", ("mnist/even", "cifar10/animal")),
    "visa": _table("visa", "MVTec AD", RECIPES["visa"].test_datasets),
}
"""What `ad reproduce inctrl` fills again."""
