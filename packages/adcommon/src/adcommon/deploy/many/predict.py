"""Millions of images -> scores and decisions in Parquet files, with any model, on a Ray cluster."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float64
from tqdm import tqdm

from adcommon.deploy.drift import drift
from adcommon.deploy.many.listing import LISTING, count_shards, identity, write_listing
from adcommon.deploy.many.pool import refuse_without_room, score_shards
from adcommon.deploy.many.shards import MAPS, SHARDS, Worker, shard_file
from adcommon.deploy.model import Model
from adcommon.deploy.predict import refuse_out
from adcommon.deploy.rows import RUN, refuse_other
from adcommon.deploy.summary import worth_of
from adcommon.io.files import atomic_write, json_text, remove_leftovers
from adcommon.io.outputs import clear, reserved

WRITTEN = (RUN, LISTING, SHARDS, MAPS)
"""What such a prediction leaves in its folder."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the shards of a prediction say."""

    asked: int
    """Images there are; more than have a row where it was stopped, or shards could not be written."""
    decisions: Counter[str]
    errors: int
    """Images that could not be scored."""
    error: str | None
    """Why the first of them."""
    scores: Float64[np.ndarray, " scored"]
    unwritten: Mapping[int, str]
    """Shards that could not be written -> the reason."""

    @property
    def anomalous(self) -> int:
        """How many are."""
        return self.decisions["anomalous"]

    @property
    def unfamiliar(self) -> int:
        """How many are not of the kind that the model knows: neither normal nor anomalous."""
        return self.decisions["unfamiliar"]

    @property
    def failed(self) -> int:
        """How many could not be scored, or were not."""
        return self.asked - len(self.scores)


def predict_many(
    worker: Worker,
    images: str,
    *,
    shard: int,
    cpus: int,
    gpus: float,
    retries: int,
    resume: bool,
    force: bool,
    made_with: Mapping[str, object],
    stop: Callable[[], bool],
) -> Counted:
    """Score every image at an address; the cluster is connected.

    Writes `worker.out`/listing.parquet, then shards/000000.parquet and so on, each as soon as it is whole,
    and with `worker.maps` maps/000000.parquet beside it. A folder that is gone on with has the images that
    it was begun with, and no shard of it is written twice.

    Args:
        images: see `write_listing`.
        shard: images in a file; a multiple of the batch gives the scores of `predict` to the last digit.
        cpus: of each worker, as `gpus` and `retries` for `score_shards`.
        resume: go on with a prediction in the folder.
        force: delete a prediction in the folder first.
        made_with: what must be the same when it is gone on with.
        stop: asked every second; True ends, and the shards that are under way are done again later.

    Raises:
        OutputExists: the folder holds another prediction, or somebody else's files, or is in use.
        BadValue: `images` cannot be listed, or the cluster has no room.
    """
    out = worker.out
    refuse_without_room(cpus, gpus)
    with reserved(out, WRITTEN, force=True):
        refuse_out(out, resume=resume, force=force, written=WRITTEN)
        wanted = {
            **made_with,
            **identity(images),
            "shard_size": shard,
            "batch_size": worker.batch_size,
            "maps": worker.maps,
        }
        goes_on = resume and (out / RUN).exists()
        if goes_on:
            refuse_other(out / RUN, wanted)
            remove_leftovers(out)
        else:
            clear(out, WRITTEN)
            write_listing(images, out, shard)
            atomic_write(out / RUN, json_text(wanted))
        count, asked = count_shards(out)
        missing = [number for number in range(count) if not goes_on or not shard_file(out, number).exists()]
        before = min(asked, (count - len(missing)) * shard)
        with tqdm(total=asked, initial=before, desc="predicting", unit="image", disable=None) as bar:
            failed = score_shards(
                worker, missing, cpus=cpus, gpus=gpus, retries=retries, done=bar.update, stop=stop
            )
        return _counted(out, count, asked, failed)


def summary(counted: Counted, model: Model, out: Path) -> str:
    """For a person: what was found, what was not scored, where everything is."""
    scored = len(counted.scores)
    rows = scored + counted.errors
    said = f"{counted.anomalous} anomalous, {counted.decisions['normal']} normal"
    if model.threshold is None:
        said = f"{scored} scored; without a threshold (--threshold) none is called anomalous"
    if counted.unfamiliar:
        said += f", {counted.unfamiliar} not of this kind"
    lines = [f"{rows} images: {said}"]
    if counted.errors:
        lines.append(f"{counted.errors} could not be scored, the first: {counted.error}")
    lines += [
        f"shard {number} could not be written: {reason}" for number, reason in counted.unwritten.items()
    ]
    if rows < counted.asked:
        lines.append(f"{rows} of {counted.asked} have a row; the same command with --resume goes on")
    lines += worth_of(model)
    caution = None if model.promise is None else drift(counted.scores, model.promise)
    if caution is not None:
        lines.append(f"caution: {caution}")
    return "\n".join([*lines, f"scores and decisions are in {out / SHARDS}/*.parquet"])


def _counted(out: Path, count: int, asked: int, failed: Mapping[int, str]) -> Counted:
    decisions, scores, errors, error = Counter[str](), [np.empty(0)], 0, None
    for file in filter(Path.exists, (shard_file(out, number) for number in range(count))):
        table = pq.read_table(file, columns=["score", "decision", "error"])
        decisions.update(table["decision"].to_pylist())
        scores.append(table["score"].drop_null().to_numpy())
        why = table["error"].drop_null()
        errors += len(why)
        error = error or (why[0].as_py() if len(why) else None)
    return Counted(asked, decisions, errors, error, np.concatenate(scores), failed)
