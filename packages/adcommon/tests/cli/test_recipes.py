from dataclasses import dataclass, replace

from adcommon.cli.recipes import recipe_list


@dataclass(frozen=True)
class Recipe:
    dataset: str = "mvtec"
    crop_size: int | None = 32
    layers: tuple[int, ...] = (1,)
    mining: bool = True


def test_a_list_says_what_differs_and_the_papers_means_and_where_ablations_begin() -> None:
    recipes = {"mvtec": Recipe(), "visa": Recipe("visa", crop_size=None, layers=(2, 3))}
    published = {
        "mvtec": {"wood": {"image_auroc": 0.5}, "mean": {"image_auroc": 0.99}},
        "visa": {"all": {"aupro": 0.9125}},
    }
    text = recipe_list("x-train", recipes, {"no_mining": replace(Recipe(), mining=False)}, published)
    assert text.splitlines()[1:] == [
        "  mvtec      the defaults  | image_auroc 99.00",
        "  visa       --dataset visa (no crop-size) --layers 2 3  | aupro 91.25",
        "ablations, which take a part of the method away:",
        "  no_mining  --no-mining",
    ]
