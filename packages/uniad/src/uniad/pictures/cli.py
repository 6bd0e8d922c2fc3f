"""The console commands around the picture decoder; torch is imported inside the functions."""

import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from adcommon.cli.app import command, experiment
from adcommon.errors import BadValue
from adcommon.training.jobs import run_jobs
from adcommon.training.logging import start_logging
from adcommon.training.settings import Settings
from adcommon.types.values import Positive
from uniad.recipes import MVTEC, Recipe

logger = logging.getLogger(__name__)

DECODER = replace(MVTEC, batch_size=32, seed=131, protocol="standard", keep_best=False)
"""The picture decoders of the paper's figures: MVTec AD, one per category."""


def train_decoder() -> None:
    """`uniad-train-decoder`: one decoder per category, from features to pictures."""
    experiment(
        "uniad-train-decoder",
        _run_decoder,
        {"decoder": DECODER},
        default="decoder",
        summary="Train decoders that draw features as pictures, one per category, on the test images; "
        "for uniad-vis-recon and uniad-vis-query.",
    )


def vis_recon() -> None:
    """`uniad-vis-recon`: pictures of what the transformer rebuilds."""
    command("uniad-vis-recon", _vis_recon)


def vis_query() -> None:
    """`uniad-vis-query`: pictures of the learned queries."""
    command("uniad-vis-query", _vis_query)


_READ = frozenset(
    "dataset meta_train meta_test image_dir normals backbone strides out_stride fixed_padding image_size "
    "interpolation upright epochs iterations batch_size seed optimiser lr adam_beta1 adam_beta2 momentum "
    "weight_decay lr_step lr_gamma clip_norm evaluate_every precision compile "
    "channels_last deterministic".split()
)
"""Fields of the recipe that a picture decoder reads."""
_UNREAD = ("maps", "eval_size", "metrics", "false_alarm_rate")
"""Settings that concern scores, which it has not."""


def _name_unread(recipe: Recipe, settings: Settings) -> None:
    """Say which values change nothing; they may be those of the model, given by the same --config."""
    given = {name: (getattr(settings, name), getattr(Settings, name)) for name in _UNREAD}
    names = sorted({entry.name for entry in fields(Recipe)} - _READ)
    given |= {name: (getattr(recipe, name), getattr(DECODER, name)) for name in names}
    changed = [f"--{name.replace('_', '-')}" for name, (value, usual) in given.items() if value != usual]
    if changed:
        logger.warning("without effect on a picture decoder: %s", ", ".join(changed))


def _run_decoder(base: str, recipe: Recipe, settings: Settings) -> None:
    """Train one picture decoder per category."""
    from uniad.data import find_splits, on_own_images
    from uniad.pictures.train_decoder import train_decoder as train_model
    from uniad.train import check_inputs

    _name_unread(recipe, settings)
    recipe = on_own_images(recipe, settings)
    splits = find_splits(recipe, settings.root(), settings.category, settings.meaning())
    run_jobs(
        "uniad-decoder",
        recipe,
        settings,
        {name: name for name in splits},
        train=lambda category, run, accelerator, stop: train_model(
            recipe, category, splits[category].test, run, accelerator, settings, stop
        ),
        check=lambda: check_inputs(recipe, splits, settings),
    )


def _vis_recon(
    *,
    model: Annotated[Path | None, Parameter(alias="--checkpoint")] = None,
    decoder: Path,
    features: Path | None = None,
    dataset: str = "mvtec",
    data_root: Path | None = None,
    data: Path | None = None,
    category: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    out: Path = Path("result_vis_recon"),
    gpu: str | None = None,
    device: str | None = None,
    batch_size: Positive = 8,
) -> None:
    """Draw what a UniAD rebuilds of test images, below the images.

    Args:
        model: Model folder, or checkpoint of the authors; needed unless --features has what it rebuilt.
        decoder: Run of uniad-train-decoder, one of its model folders, or a checkpoint of the authors.
        features: Folder that uniad-evaluate --save-features wrote.
        dataset: Dataset name; `ad datasets` lists them.
        data_root: Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]
        data: A folder of my own images.
        category: Categories to draw. [default: all]
        out: Folder for the pictures, <category>/<defect>/<image>.jpg.
        gpu: Number of the GPU, or `cpu`. [default: the first GPU if there is one]
        device: Device by its torch name: cpu, cuda:1, mps.
        batch_size: Images per batch.
    """
    from adcommon.data import load_splits
    from adcommon.models.devices import choose_device
    from uniad.checkpoint import load_trained
    from uniad.pictures.checkpoint import load_decoder
    from uniad.pictures.visualise import draw_reconstructions, draw_saved_features

    if model is None and features is None:
        raise BadValue("nothing to draw: give --model, or --features with what a model rebuilt")
    start_logging(None)
    chosen = choose_device(gpu, device)
    trained = None if model is None or features is not None else load_trained(model, chosen)
    root = data or Settings(data_root=data_root).root()
    for name, split in load_splits("folder" if data else dataset, root, category).items():
        draw, preprocess = load_decoder(decoder, name, chosen)
        if trained is not None:
            drawn = draw_reconstructions(trained.scorer, draw, split.test, out / name, batch_size=batch_size)
        else:
            assert features is not None  # checked above
            drawn = draw_saved_features(features / name, draw, preprocess, split.test, out / name)
        print(f"{drawn} pictures of {name} are in {out / name}")


def _vis_query(
    *,
    model: Annotated[Path, Parameter(alias="--checkpoint")],
    decoder: Path,
    category: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    bn: Literal["running", "batch"] = "running",
    captions: bool = True,
    out: Path = Path("result_vis_query"),
    gpu: str | None = None,
    device: str | None = None,
) -> None:
    """Draw what the queries of a UniAD have learned.

    Args:
        model: Model folder, or checkpoint of the authors.
        decoder: Run of uniad-train-decoder, one of its model folders, or a checkpoint of the authors.
        category: Categories whose decoders draw. [default: those of the model]
        bn: Statistics of the decoder's batch norm: `running`, or each picture's own (`batch`), as the
            reference.
        captions: Write below each tile what it is.
        out: Folder for query_<category>.jpg.
        gpu: Number of the GPU, or `cpu`. [default: the first GPU if there is one]
        device: Device by its torch name: cpu, cuda:1, mps.
    """
    from adcommon.models.devices import choose_device
    from uniad.checkpoint import load_trained
    from uniad.pictures.checkpoint import load_decoder
    from uniad.pictures.drawing import write_jpeg
    from uniad.pictures.visualise import draw_queries

    start_logging(None)
    chosen = choose_device(gpu, device)
    trained = load_trained(model, chosen)
    for name in category or trained.categories:
        draw, _ = load_decoder(decoder, name, chosen)
        sheet = draw_queries(trained.scorer, draw, batch_statistics=bn == "batch", captions=captions)
        write_jpeg(out / f"query_{name}.jpg", sheet)
        print(f"the queries as the decoder of {name} draws them are in {out / f'query_{name}.jpg'}")
