"""What `predict` takes besides for millions of images, and how a cluster scores them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from adcommon.errors import BadValue
from adcommon.io.schema import check_fields
from adcommon.types.values import Count, NotNegative, Positive, Runtime

if TYPE_CHECKING:
    from adcommon.deploy.many.predict import Counted
    from adcommon.deploy.model import Model


@Parameter(name="*", group=Group("Millions of images", sort_key=3))
@dataclass(frozen=True, kw_only=True)
class Many:
    """Who scores, and what each worker gets."""

    engine: Annotated[Literal["ray"] | None, Parameter(show_default=False)] = None
    """`ray`: workers of a Ray cluster, each with the model, which write Parquet files to a folder that all of
    them share. [default: this process]"""
    shard_size: Positive = 1000
    """Images in a file, which is written whole or done again."""
    cpus: Positive = 1
    """For each worker; a file of `ad export` takes as many threads."""
    gpus: NotNegative = 0.0
    """For each worker, or a share of one: 0.5; a file of `ad export` takes it with --device cuda."""
    ray_address: Annotated[str | None, Parameter(show_default=False)] = None
    """Of the cluster; `local` starts one on this machine. [default: auto, the one that runs here]"""
    retries: Count = 2
    """How often a shard is tried again whose worker died; the last time image by image."""

    def __post_init__(self) -> None:
        """Refuse what means nothing to this process."""
        check_fields(self)
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if self.engine is None and given:
            raise BadValue(f"--{given[0].replace('_', '-')} is for --engine ray; give both or neither")

    def refuse(self, runtime: Runtime | None, **flags: object) -> None:
        """Refuse flags of `predict` that mean nothing to a cluster."""
        if given := [name for name, value in flags.items() if value]:
            raise BadValue(f"--{given[0].replace('_', '-')} means nothing to --engine ray; leave it out")
        if runtime == "auto":
            raise BadValue("--runtime auto may differ from worker to worker; name the one")


def predict_on_ray(
    model: "Model",
    load: "Callable[[], tuple[Model, str]]",
    images: str,
    out: Path,
    many: Many,
    *,
    batch_size: int,
    workers: int,
    maps: bool,
    resume: bool,
    force: bool,
    made_with: Mapping[str, object],
    stop: Callable[[], bool],
) -> "Counted":
    """Score images on the cluster that the flags mean, and print what was found; see `predict_many`.

    Args:
        model: tells what the decisions are worth.
        load: gives a worker the same.
        made_with: has the model's path and its digest.
    """
    from adcommon.io.cluster import connect

    connect(many.ray_address, "pyarrow", "fsspec")
    from adcommon.deploy.many.predict import predict_many, summary
    from adcommon.deploy.many.shards import Worker

    worker = Worker(
        load=load,
        model=Path(str(made_with["model"])),
        model_digest=str(made_with["model_digest"]),
        out=out.absolute(),
        batch_size=batch_size,
        threads=workers,
        maps=maps,
        environment={name: value for name, value in os.environ.items() if name.startswith("AD_")},
    )
    counted = predict_many(
        worker,
        images,
        shard=many.shard_size,
        cpus=many.cpus,
        gpus=many.gpus,
        retries=many.retries,
        resume=resume,
        force=force,
        made_with={
            **made_with,
            "threshold": model.threshold,
            "false_alarm_rate": None if model.promise is None else model.promise.false_alarm_rate,
        },
        stop=stop,
    )
    print(summary(counted, model, out))
    return counted
