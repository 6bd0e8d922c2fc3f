"""What the commands and `inctrl.fit` run: one model per number of references. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adcommon.errors import BadValue
from adcommon.training.jobs import Fitted, run_jobs
from adcommon.types.records import Record, Split
from inctrl.data import labelled
from inctrl.recipes import MVTEC, VISA, Recipe
from inctrl.results import write_summary
from inctrl.settings import TrainSettings


def run(
    recipe: Recipe, records: Sequence[Record], targets: Sequence[Split], settings: TrainSettings, *, name: str
) -> Fitted:
    """Train one model for each number of references, and test each on categories it has not seen.

    Args:
        records: all that is trained on, normal and anomalous.
        targets: the categories to test on; none: nothing is tested.
        name: of the run's folder, if the settings do not say.
    """
    from inctrl.train import check_inputs, train

    fitted = run_jobs(
        name,
        recipe,
        settings,
        {f"{shots}-shot": shots for shots in recipe.shots},
        train=lambda shots, run, accelerator, stop: train(
            recipe, shots, records, targets, run, accelerator, settings, stop
        ),
        check=lambda: check_inputs(recipe, records, targets, settings),
    )
    if fitted.rows:
        print("\n" + write_summary(fitted.folder, fitted.rows, paper=recipe in (MVTEC, VISA)))
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
        data: normal and anomalous images, from `adcommon.folder` or `adcommon.dataset`; several categories
            by name. Its training and test images are trained on alike.
        targets: other categories to test on, with references of their training images.
        out: folder for everything the run leaves behind, a model for each number of references.
        device: by its torch name; by default the first GPU if there is one.
        weights: of the frozen network: "pretrained", "random" or a file.
        workers: processes that load images; 0 loads in this one.
        cache: keep decoded images and features on disk.
        resume: continue a run in `out` that was stopped or killed.
        force: overwrite a run in `out`.

    Raises:
        UserError: what cannot work, before the training begins.
    """
    trained_on = [data] if isinstance(data, Split) else list(data.values())
    tested = [targets] if isinstance(targets, Split) else list((targets or {}).values())
    if not trained_on:
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
    recipe = replace(
        recipe,
        dataset=trained_on[0].dataset,
        test_datasets=tuple(f"{split.dataset}/{split.category}" for split in tested),
    )
    return run(recipe, labelled(trained_on), tested, settings, name="inctrl")
