"""How often is an image called unfamiliar, of the same kind and of others?

uv run python benchmarks/kinds.py docs/thresholds.md mono=elpv poly=elpv textile=textile screw=DIR ...

Each word is NAME=FOLDER, or CATEGORY=DATASET of one that is installed. A draw takes some good images for a
kind and asks of all others. The table goes between the lines `<!-- kinds -->` of the page, with the percent
of images that are called unfamiliar.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from tables import replace_table

import adcommon as ad
from adcommon.data.kind import Kind, appearance, unfamiliar
from adcommon.data.sources.embedded import PACKAGES
from adcommon.io.files import atomic_write
from adcommon.types.records import Record, Split

SIZES, DRAWS, MOST = (8, 20, 60, 400), 10, 300
"""Good images of a draw; draws of each size; images of one label that are looked at."""
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "darkened to 60 %": lambda image: image.point(lambda value: 0.6 * value),
    "blurred, 3 px": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "turned by 90°": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
}


def look(
    records: list[Record], change: Callable[[Image.Image], Image.Image] = lambda image: image
) -> list[np.ndarray]:
    """The appearance of images, changed."""
    with ThreadPoolExecutor() as pool:
        return list(
            pool.map(lambda record: appearance(change(Image.open(record.image).convert("RGB"))), records)
        )


def main() -> None:
    page, *words = sys.argv[1:]
    good, bad, changed = {}, {}, {}
    for word in words:
        name, _, where = word.partition("=")
        found = ad.dataset(where, category=name) if where in PACKAGES else ad.folder(where)
        assert isinstance(found, Split)
        records = [
            [record for record in (*found.train, *found.test) if record.label == label] for label in (0, 1)
        ]
        order = np.random.default_rng(0).permutation(len(records[0])).tolist()
        records[0] = [records[0][place] for place in order][: max(SIZES) + MOST]
        good[name], bad[name] = look(records[0]), look(records[1][:MOST])
        changed[name] = {what: look(records[0][:60], change) for what, change in CHANGES.items()}
    heads = ["kind", "known", "good", "with defects", *CHANGES, *(f"`{name}`" for name in good)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, images in good.items():
        for size in (size for size in SIZES if size <= 0.7 * len(images)):
            shares = []
            for seed in range(DRAWS):
                order = np.random.default_rng(seed).permutation(len(images)).tolist()
                kind = Kind.of([images[place] for place in order[:size]])
                assert kind is not None
                asked = [[images[place] for place in order[size:]], bad[name], *changed[name].values()]
                asked += [[] if name == other else good[other][:MOST] for other in good]
                shares.append([_share(kind, some) for some in asked])
            means = [f"{value:.3g}" for value in np.mean(shares, axis=0)]
            lines.append(f"| `{name}` | {size} | {' | '.join(means).replace('nan', '')} |")
    file = Path(page)
    atomic_write(file, replace_table(file.read_text(encoding="utf-8"), "kinds", "\n".join(lines) + "\n"))


def _share(kind: Kind, some: list[np.ndarray]) -> float:
    called = [unfamiliar([kind], seen) is not None for seen in some]
    return 100 * sum(called) / len(called) if called else float("nan")


if __name__ == "__main__":
    main()
