"""Does a threshold's false-alarm rate hold? Measured on good images that took no part in it.

uv run python benchmarks/calibration.py measure draws.jsonl padim textile=data/textile --images 60
uv run python benchmarks/calibration.py measure draws.jsonl FEW_SHOT_MODEL brats=DIR --images 8 --rate 0.112
uv run python benchmarks/calibration.py page draws.jsonl docs/thresholds.md

A draw takes so many good images of a folder, trains `padim` or `patchcore` on them, or gives them to a
few-shot model as references, and counts what its threshold calls anomalous among all the others. `page` puts
all draws of the file into the table between the lines `<!-- calibration -->` of a page.
"""

import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from cyclopts import App
from tables import replace_table

import adcommon as ad
from adcommon.deploy.model import Model
from adcommon.io.files import atomic_write
from adcommon.types.records import Record, Split

app = App(help=__doc__)
TRAINING_FREE = ("padim", "patchcore")


@dataclass(frozen=True)
class Draw:
    """What one threshold did."""

    method: str
    data: str
    images: int
    """It was made of."""
    rate: float
    alarms: int
    others: int
    """Good images that it was not made of."""
    low: float
    high: float
    """The interval that stood beside the threshold."""
    found: int
    defects: int

    @property
    def inside(self) -> bool:
        """The measured rate lies in the interval."""
        return self.low <= self.alarms / self.others <= self.high


@app.command
def measure(
    out: Path, method: str, data: str, *, images: int, draws: int = 5, rate: float = 0.05, category: str = ""
) -> None:
    """Measure some draws and append them to a file.

    Args:
        out: file of draws, one JSON object a line.
        method: padim, patchcore, or the model folder of a few-shot method.
        data: NAME=FOLDER, or NAME=dataset for one of `ad datasets` that is installed.
        images: good ones of a draw.
        rate: false-alarm rate to ask for.
        category: of the data, where there are several.
    """
    name, _, folder = data.partition("=")
    found = ad.dataset(name, category=category) if folder == "dataset" else ad.folder(folder)
    assert isinstance(found, Split)
    good = [*found.train, *(record for record in found.test if not record.label)]
    bad = [record for record in found.test if record.label]
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(good)).tolist()
        own, others = ([good[place] for place in part] for part in (order[:images], order[images:]))
        with tempfile.TemporaryDirectory() as scratch:
            model = _model(method, own, [*others[:2], *bad[:2]], rate, Path(scratch))
            model.decide_at(rate)
            assert model.promise is not None
            alarms, detected = (_called(model, records) for records in (others, bad))
        low, high = model.promise.interval
        draw = Draw(
            model.method, category or name, images, rate, alarms, len(others), low, high, detected, len(bad)
        )
        print(draw, flush=True)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(draw)) + "\n")


@app.command
def page(draws: Path, into: Path) -> None:
    """Put the table of all draws of a file into a page."""
    groups: dict[tuple[str, str, int, float], list[Draw]] = {}
    for line in draws.read_text(encoding="utf-8").splitlines():
        draw = Draw(**json.loads(line))
        groups.setdefault((draw.method, draw.data, draw.images, draw.rate), []).append(draw)
    lines = [
        "| method | data | good images | rate asked for | draws | false alarms | inside | defects found |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for (method, data, images, rate), some in groups.items():
        alarms = [100 * draw.alarms / draw.others for draw in some]
        found = statistics.mean(100 * draw.found / draw.defects for draw in some if draw.defects)
        cells = (
            *(f"`{method}`", data, str(images), f"{100 * rate:.3g} %", str(len(some))),
            f"{statistics.mean(alarms):.1f} ± {statistics.stdev(alarms):.1f} % of {some[0].others}",
            f"{sum(draw.inside for draw in some)} of {len(some)}",
            f"{found:.0f} % of {some[0].defects}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    text = into.read_text(encoding="utf-8")
    atomic_write(into, replace_table(text, "calibration", "\n".join(lines) + "\n"))


def _model(method: str, own: list[Record], test: list[Record], rate: float, scratch: Path) -> Model:
    if method not in TRAINING_FREE:
        return ad.load(method, references=[record.image for record in own], category="object", device="cpu")
    package = import_module(f"baselines.{method}")
    recipe = package.RECIPES["small"]
    return package.fit(
        recipe, Split(own, test), out=scratch / "run", device="cpu", false_alarm_rate=rate
    ).model


def _called(model: Model, records: list[Record]) -> int:
    results = model.stream([record.image for record in records], batch_size=16)
    return sum(bool(result.is_anomalous) for result in results)


if __name__ == "__main__":
    app()
