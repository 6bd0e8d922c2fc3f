"""Images or a folder of them -> scores, decisions and pictures in files, with any model."""

import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from adcommon.data.leaks import refuse_leak, same_files
from adcommon.deploy.inputs import list_inputs
from adcommon.deploy.model import Model
from adcommon.deploy.regions import write_map
from adcommon.deploy.result import Result
from adcommon.deploy.rows import (
    RUN,
    TABLE,
    Judge,
    Row,
    append,
    listing_digest,
    read_rows,
    refuse_other,
    rewind,
)
from adcommon.deploy.summary import Predicted, drift_of, worth_of
from adcommon.io.files import atomic_write, json_text, output_errors, remove_leftovers
from adcommon.io.lock import locked
from adcommon.io.outputs import clear, refuse_held
from adcommon.results.drawing import Colours, covered, on_page, write_pictures
from adcommon.results.gallery import write_gallery
from adcommon.results.picture_names import picture_names
from adcommon.types.values import MapFormat

logger = logging.getLogger(__name__)

MAPS, RAW = "maps", "raw"
WRITTEN = (RUN, TABLE, MAPS, RAW)
"""What a prediction leaves in its folder."""
LONGEST_SIDE = 2048
"""Of a picture, pixels; larger images are drawn smaller."""


def refuse_out(out: Path, *, resume: bool, force: bool, written: Collection[str] = WRITTEN) -> None:
    """Refuse a folder that a prediction must not write to, before anything is loaded.

    Args:
        written: what the prediction itself leaves there.

    Raises:
        OutputExists: it holds another prediction, and neither `resume` nor `force` was asked for, or what
            somebody else wrote.
    """
    remedy = "Continue the prediction in it with --resume, delete it and start afresh with --force"
    refuse_held(out, written, wanted=resume or force, remedy=remedy)


def predict(
    model: Model,
    inputs: Path,
    out: Path,
    *,
    batch_size: int = 8,
    workers: int = 2,
    maps: bool = True,
    save_maps: MapFormat | None = None,
    resume: bool = False,
    force: bool = False,
    made_with: Mapping[str, object] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Predicted:
    """Score an image, or every image in a folder at any depth, in the order of their paths.

    Appends to `out`/predictions.csv batch by batch and writes, for each image, its heat map over it:
    `out`/maps/ repeats the folders of `inputs` and the full file names, and its index.html shows them all. An
    unreadable file becomes a row with an error.

    Args:
        inputs: folder or file; nothing below `out` is taken for an input.
        out: folder for everything that is written; one process at a time has it.
        batch_size: images scored at once.
        workers: threads that decode images, and as many that draw pictures, while the model works; 0 is 1.
        maps: write the pictures, if the method has anomaly maps.
        save_maps: also write the maps themselves, at the images' own size, and where they are high, into
            `out`/raw/.
        resume: go on with a prediction in `out`; what comes out is what an unbroken one gives.
        force: delete a prediction in `out` first.
        made_with: further facts that must be the same when it is resumed, by name: the model's file.
        stop: asked after every batch; True ends in good order.

    Raises:
        OutputExists: `out` holds another prediction, or somebody else's files, or another process writes it.
    """
    with locked(out):
        refuse_out(out, resume=resume, force=force)
        listing = list_inputs(inputs, out)
        what = "images are references too, and would be compared with themselves"
        copies = same_files(listing.images, model.references)
        refuse_leak(copies, what, "Leave them out, or give other references.")
        wanted = {
            **(made_with or {}),
            "threshold": model.threshold,
            "false_alarm_rate": None if model.promise is None else model.promise.false_alarm_rate,
            "batch_size": batch_size,
            "maps": maps,
            "save_maps": save_maps,
            "images": str(inputs.resolve()),
            "images_digest": listing_digest(listing.images),
        }
        if resume and (out / RUN).exists():
            refuse_other(out / RUN, wanted)
            remove_leftovers(out)
        else:
            clear(out, WRITTEN)
            atomic_write(out / RUN, json_text(wanted))
        rows = _predict(model, inputs, listing.images, out, batch_size, workers, maps, save_maps, stop)
    return Predicted(rows, listing.passed_over, len(listing.images))


def _predict(
    model: Model,
    inputs: Path,
    paths: Sequence[Path],
    out: Path,
    batch_size: int,
    workers: int,
    maps: bool,
    save_maps: MapFormat | None,
    stop: Callable[[], bool],
) -> list[Row]:
    """Score what has no row yet; all rows."""
    folder = out / MAPS
    root = inputs if inputs.is_dir() else inputs.parent
    names = [path.relative_to(root) for path in paths]
    pictures = [folder / name for name in picture_names(names, ".jpg")]
    judge = _judge(model)
    rows = read_rows(out / TABLE, paths, judge)
    if folder.is_dir():  # else the method has no maps, or none are wanted
        lacking = (
            place for place, row in enumerate(rows) if row.error is None and not pictures[place].exists()
        )
        del rows[next(lacking, len(rows)) :]
    if len(rows) < len(paths):  # a score may depend, in its last digits, on the batch it is in
        del rows[len(rows) - len(rows) % batch_size :]
    rewind(out / TABLE, rows)

    colours = None if model.calibration is None else model.calibration.colours
    picture_of = partial(_write_pictures, out=out, colours=colours, save_maps=save_maps)
    drawing: deque[Future[None]] = deque()
    view = LONGEST_SIDE if maps else None
    results = model.stream(paths[len(rows) :], batch_size=batch_size, workers=workers, view=view)
    bar = tqdm(total=len(paths), initial=len(rows), desc="predicting", unit="image", disable=None)
    with ThreadPoolExecutor(max(1, workers)) as pool, bar:
        while not stop() and (batch := list(islice(results, batch_size))):
            first = len(rows)
            rows += [
                judge(path, result.score, result.unfamiliar, result.error)
                for path, result in zip(paths[first:], batch, strict=False)
            ]
            _say_errors(rows[first:])
            drawn = [result.network_map is not None and maps for result in batch]
            if any(drawn):
                with output_errors(folder):
                    folder.mkdir(exist_ok=True)
            append(out / TABLE, rows[first:])
            for place, (result, wanted) in enumerate(zip(batch, drawn, strict=True), first):
                if wanted:
                    drawing.append(pool.submit(picture_of, result, pictures[place]))
            while len(drawing) > batch_size:  # each holds its image
                drawing.popleft().result()
            bar.update(len(batch))
        for job in drawing:
            job.result()
    shown = [
        on_page(folder, file.relative_to(folder), name.as_posix(), row.score, unfamiliar=row.unfamiliar)
        for name, row, file in zip(names, rows, pictures, strict=False)
        if row.score is not None
    ]
    if folder.is_dir():
        title, worth = f"{len(shown)} images of {root}", " ".join(worth_of(model))
        if (caution := drift_of(model, rows)) is not None:
            worth = f"{worth}. Caution: {caution}"
        write_gallery(
            folder,
            shown,
            title=title,
            threshold=model.threshold,
            whose="the model's" if model.threshold_is_own else "yours",
            worth=worth,
            colours=colours,
        )
    return rows


def _judge(model: Model) -> Judge:
    """What the table says of an image, by this model."""
    promised = None if model.promise is None else model.promise.false_alarm_rate

    def judge(path: Path, score: float | None, unfamiliar: str | None, error: str | None) -> Row:
        known = model.calibration
        p_value = None if score is None or known is None else known.p_value(score)
        return Row(path, score, p_value, model.threshold, promised, unfamiliar, error)

    return judge


def _say_errors(rows: Sequence[Row]) -> None:
    for row in rows:
        if row.error is not None:
            logger.warning("skipping %s", row.error)


def _write_pictures(
    result: Result, file: Path, *, out: Path, colours: Colours | None, save_maps: MapFormat | None
) -> None:
    name = file.relative_to(out / MAPS)
    if save_maps is not None and (anomaly_map := result.anomaly_map) is not None:
        raw = out / RAW / name.with_suffix("")
        write_map(anomaly_map, raw, save_maps, None if colours is None else colours[1])
    assert result.network_map is not None
    assert result.view is not None
    drawn = covered(result.view, result.network_map, result.preprocess, colours)
    write_pictures(out / MAPS, name, result.view, drawn, None)
