"""What the commands and `resad.fit` run: one model of all seen categories. No torch here."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from adcommon.errors import BadValue
from adcommon.results.rows import Published
from adcommon.training.jobs import Fitted, run_jobs
from adcommon.types.records import Split
from resad.recipes import FOLDER, Recipe
from resad.settings import TrainSettings


def run(
    recipe: Recipe,
    seen: Mapping[str, Split],
    unseen: Mapping[str, Split],
    settings: TrainSettings,
    *,
    name: str,
    published: Published | None = None,
    multishot: bool = False,
) -> Fitted:
    """Train one model on the seen categories and evaluate it on the unseen ones.

    Args:
        unseen: none: nothing is tested, and the model waits for references.
        name: of the run's folder, if the settings do not say.
        published: the paper's numbers, to stand beside ours.
        multishot: write the extension's folders and plots.
    """
    from resad.train import check_inputs, train

    fitted = run_jobs(
        name,
        recipe,
        settings,
        {"model_of_all": seen},
        train=lambda job, run, accelerator, stop: train(
            recipe, job, unseen, run, accelerator, settings, stop, multishot=multishot
        ),
        check=lambda: check_inputs(recipe, seen, unseen, settings),
        published=published,
    )
    if fitted.rows:
        print(f"the authors' files are in {settings.checkpoints()}")
    return fitted


def fit(
    recipe: Recipe,
    data: Split | Mapping[str, Split],
    *,
    targets: Split | Mapping[str, Split] | None = None,
    out: Path | str,
    device: str | None = None,
    weights: str = "pretrained",
    workers: int = 0,
    cache: bool = True,
    resume: bool = False,
    force: bool = False,
) -> Fitted:
    """Train on all labelled images of `data`, test on `targets`, and save everything in `out`.

    Args:
        recipe: one of `RECIPES`, or `dataclasses.replace` of one.
        data: normal and anomalous images with masks, from `adcommon.dataset` or `adcommon.folder`; several
            categories by name.
        targets: other categories to test on, with references of their training images. Without, nothing is
            tested, and the model wants references when it is loaded.
        out: folder for everything the run leaves behind.
        device: by its torch name; by default the first GPU if there is one.
        weights: of the backbone: "pretrained", "random" or a file.
        workers: processes that load images; 0 loads in this one.
        cache: keep decoded images on disk.
        resume: continue a run in `out` that was stopped or killed.
        force: overwrite a run in `out`.

    Raises:
        UserError: what cannot work, before the training begins.
    """
    seen, unseen = _by_category(data), _by_category(targets)
    if not seen:
        raise BadValue("no data was given; expected what adcommon.folder or adcommon.dataset returns")
    settings = TrainSettings(
        out=Path(out),
        device=device,
        weights=weights,
        workers=workers,
        cache=cache,
        resume=resume,
        force=force,
    )
    trained, tested = (next((split.dataset for split in part.values()), FOLDER) for part in (seen, unseen))
    return run(replace(recipe, setting=f"{trained}_to_{tested}"), seen, unseen, settings, name="resad")


def _by_category(data: Split | Mapping[str, Split] | None) -> dict[str, Split]:
    return {data.category: data} if isinstance(data, Split) else dict(data or {})
