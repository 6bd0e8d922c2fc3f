"""`ad watch`: new images in a folder, scored as they come."""

import os
import shlex
import shutil
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from adcommon.cli.deciding import Deciding
from adcommon.errors import BadValue
from adcommon.types.values import AboveZero, Positive, Workers


def watch(
    folder: Path,
    *,
    deciding: Deciding,
    out: Path = Path("watched"),
    log: Path | None = None,
    move_to: Path | None = None,
    on_anomaly: str | None = None,
    maps: bool = True,
    interval: AboveZero = 1.0,
    once: bool = False,
    batch_size: Positive = 8,
    workers: Workers = 2,
    max_megapixels: Annotated[Positive | None, Parameter(show_default=False)] = None,
) -> None:
    """Score the images of a folder as they arrive, each once, whatever stops it in between.

    Runs until it is stopped: Ctrl-C or SIGTERM end in good order (exit code 130 or 143), and the same command
    goes on. With --once the exit code is 0 if every image was scored, 1 if one was not; 2 is a mistake in the
    call.

    Args:
        folder: Where images are written, or moved to, at any depth.
        out: Folder for the log and for pictures of anomalous images.
        log: File for a line for each image, *.jsonl, *.csv or *.sqlite: what it tells of is not scored again.
            [default: log.jsonl in --out]
        move_to: Folder that scored images are moved to, into normal, anomalous, unfamiliar or error.
        on_anomaly: Command that is run for each image that is anomalous, or not of the kind that the model
            knows: without a shell, with its line of the log, as JSON, on standard input. The argument {}
            becomes the image's path. It is ended after ten seconds.
        maps: Write a picture of the anomaly map of each such image.
        interval: Seconds between two looks; a file is read when two in a row found it unchanged.
        once: Score what is there, and end.
        batch_size: Images per batch.
        workers: Threads that decode images.
        max_megapixels: Largest picture that is decoded, in millions of pixels.
            [default: $AD_MAX_MEGAPIXELS, else 100]
    """
    from adcommon.deploy.summary import worth_of
    from adcommon.deploy.watch.watch import LOG, refuse_places, shown
    from adcommon.deploy.watch.watch import watch as run
    from adcommon.io.decoding import allow_megapixels
    from adcommon.training.logging import start_logging
    from adcommon.training.stop import StopSignal

    start_logging(None)
    if max_megapixels is not None:
        allow_megapixels(max_megapixels)
    command = command_words(on_anomaly)
    file = log or out / LOG
    refuse_places(folder, out, file, move_to)
    loaded, _ = deciding.load()
    if (move_to or command) and loaded.threshold is None:
        raise BadValue(
            "--move-to and --on-anomaly need a threshold, and the model has none; give --threshold"
        )
    for line in worth_of(loaded):
        print(line, flush=True)
    with StopSignal() as stop:
        counts = run(
            loaded,
            folder,
            out,
            log=file,
            move_to=move_to,
            on_anomaly=command,
            maps=maps,
            interval_s=interval,
            batch_size=batch_size,
            workers=workers,
            once=once,
            stop=lambda: stop.requested,
        )
    print(f"{shown(counts)}; their lines are in {file}")
    if stop.number:
        raise SystemExit(128 + stop.number)
    if once and counts["error"]:
        raise SystemExit(1)


def command_words(command: str | None) -> list[str]:
    """Those of a command that can be run; on Windows its backslashes are of paths."""
    if command is None:
        return []
    try:
        words = shlex.split(command.replace("\\", r"\\") if os.sep == "\\" else command)
    except ValueError as error:
        raise BadValue(f"--on-anomaly {command}: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise BadValue(f"--on-anomaly is '{command}'; expected a program that can be run, and its arguments")
    return words
