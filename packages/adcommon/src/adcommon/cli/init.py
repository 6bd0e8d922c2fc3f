"""`ad init`: looks at a folder of photographs and writes what it understood as a file for `--config`."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median_low
from textwrap import wrap

import yaml

from adcommon.errors import OutputExists
from adcommon.io.files import atomic_write
from adcommon.training.settings import Names
from adcommon.types.records import Split
from adcommon.types.threshold import images_needed

SIZE, SMALLER = 256, 128
"""Sides of the network's input, pixels; multiples of 128 fit every method and recipe."""
LARGE = 4
"""Times that side, from which tiles are worth a word."""
RATES = (0.05, 0.1, 0.2)
"""False-alarm rates to choose from, the first one that the good photographs support."""
KEPT_OUT = 0.1
"""Share of the good photographs that methods which train keep out of it for the threshold."""


def init(
    data: Path,
    *,
    out: Path | None = None,
    good: Names = (),
    bad: Names = (),
    masks: Names = (),
    force: bool = False,
) -> None:
    """Look at my photographs and write what was understood as a file for --config, each line explained.

    Every training command and `ad compare` take it: `ad compare --config ad.yaml`.

    Args:
        data: A folder of my own images, or a list of them.
        out: The file. [default: ad.yaml beside the folder]
        good: Folders of normal images among my own, by name or path, where their names do not say it.
        bad: Folders of anomalous ones.
        masks: Folders of masks.
        force: Overwrite the file.
    """
    from adcommon.data import load_splits
    from adcommon.data.sources.meaning import Meaning
    from adcommon.training.logging import start_logging

    start_logging(None)
    folder = data.resolve() if data.is_dir() else data.resolve().parent
    out = out or folder.parent / "ad.yaml"
    if out.exists() and not force:
        raise OutputExists(f"{out} is there already; overwrite it with --force, or choose another --out")
    splits = load_splits("folder", data, meaning=Meaning(good, bad, masks))
    said = {"good": good, "bad": bad, "masks": masks}
    atomic_write(out, "\n".join(_lines(data.resolve(), folder, splits, said, out)).lstrip() + "\n")
    print(f"{out} says what was understood, line by line; change it as you like\n{_next(out)}")


def _lines(
    data: Path, folder: Path, splits: Mapping[str, Split], said: Mapping[str, Names], out: Path
) -> Iterator[str]:
    """The file: comments, and flags with their values."""
    category, split = next(iter(splits.items()))
    train, tested = split.train, split.test
    normal, anomalous = ([one for one in tested if one.label == label] for label in (0, 1))
    yield from _comment("What `ad init` understood. Every line may be changed; what follows a # is not read.")
    yield from (f"#   {line}" for line in _next(out).splitlines())
    yield from _comment("Where the photographs lie.", before=[""])
    yield _flag("data", str(data))
    if len(splits) > 1:
        yield from _comment(
            f"Which of the {len(splits)} kinds of parts: {', '.join(splits)}. Without this line a training "
            "makes a model of each; `ad compare` looks at one."
        )
        yield _flag("category", category)
    marks = [one.mask for one in anomalous if one.mask]
    found = {
        "good": (
            [one.image for one in (*train, *normal)],
            "Good photographs",
            f", {len(normal)} of them to test with",
        ),
        "bad": ([one.image for one in anomalous], "Bad ones", " to test with; nothing learns from them"),
        "masks": (marks, "Masks, which mark the defects", ""),
    }
    for kind, (paths, what, use) in found.items():
        places = ", ".join(_below(paths, folder)) or "no folder, and none is needed"
        otherwise = "" if said[kind] else " If that is wrong, name the folders, without the #:"
        yield from _comment(f"{what}: {len(paths)}{use}, found in {places}.{otherwise}")
        yield _flag(kind, list(said[kind])) if said[kind] else f"# {kind}: [NAME, NAME]"
    yield from _size(split)
    yield from _rate(len(train))


def _size(split: Split) -> Iterator[str]:
    """The image size that the photographs ask for, and why."""
    from adcommon.data.tiling import boxes
    from adcommon.io.headers import read_header

    sizes = [read_header(one.image).upright_size for one in (*split.train, *split.test)]
    short = median_low(min(size) for size in sizes)
    side = SIZE if short >= SIZE else SMALLER
    tile = 2 * side
    alike = "x".join(map(str, sizes[0])) if len(set(sizes)) == 1 else f"several sizes, about {short}"
    reason = "there is no more to see in them."
    if short > side:
        finer = f" {2 * side} shows finer ones and takes four times as long." if short >= 2 * side else ""
        reason = (
            f"a pixel is then {short / side:.1f} of theirs, and little is left of a defect of less than "
            f"{8 * short // side}.{finer}"
        )
    text = f"Photographs of {alike} pixels become squares of this side: {reason}"
    yield from _comment(f"{text} Multiples of 128 fit all methods.")
    yield _flag("image_size", side)
    if short >= LARGE * side:
        count = len(boxes(*sizes[0], tile, tile // 8))
        yield from _comment(
            "For small defects photographs can be cut into squares of so many of their own pixels, each "
            f"looked at by itself: {count} of them make {count} times the work. Without the #:"
        )
        yield f"# {_flag('tile', tile)}"


def _rate(count: int) -> Iterator[str]:
    """The false-alarm rate that so many good photographs support, and what supports a lower one."""
    rate = next((rate for rate in RATES if images_needed(rate) <= count), RATES[-1])
    needed = images_needed(rate)
    text = (
        f"Share of good photographs that may be called bad. {rate:g} needs {needed} good ones that the model "
        "was not made of."
    )
    if rate != RATES[0]:
        text += f" {RATES[0]:g} needs {images_needed(RATES[0])}."
    if count < needed:
        text += f" There are {count}: scores only rank."
    yield from _comment(
        f"{text} `padim` and `patchcore` leave each of the {count} out in turn; methods that train keep a "
        f"tenth out, {int(KEPT_OUT * count)}, and need {round(needed / KEPT_OUT)}; few-shot ones use their "
        "references."
    )
    yield _flag("false_alarm_rate", rate)


def _next(out: Path) -> str:
    file = shlex.quote(str(out))
    return (
        f"which method suits them, in 20 minutes:  uv run ad compare --config {file}\n"
        f"one alone, in seconds:                   uv run padim-train --config {file} --recipe small --maps"
    )


def _below(paths: Iterable[Path], folder: Path) -> list[str]:
    """The folders of files, as they are named from a folder."""
    places = dict.fromkeys(path.resolve().parent for path in paths)
    return [
        (place.relative_to(folder) if place.is_relative_to(folder) else place).as_posix() for place in places
    ]


def _comment(text: str, before: Iterable[str] = ("",)) -> Iterator[str]:
    yield from before
    yield from (f"# {line}" for line in wrap(text, 98, break_long_words=False, break_on_hyphens=False))


def _flag(name: str, value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return f"{name}: {text.partition(chr(10))[0]}"
