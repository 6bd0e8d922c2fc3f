"""Whatever names a list holds, nothing outside the run's folder is written, changed or deleted."""

import csv
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from adcommon.data import load_splits
from adcommon.data.check.dataset import check
from adcommon.data.lists.fewshot import draw_references, write_references
from adcommon.data.lists.manifest import write_manifest
from adcommon.data.preprocess import Preprocess
from adcommon.errors import UserError
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.maps import write_maps
from adcommon.models.checkpoint import save_trained
from adcommon.results.card import Paper
from adcommon.results.rows import row
from adcommon.testing.surroundings import untouched
from adcommon.testing.trees import make_folder
from adcommon.training.jobs import run_jobs
from adcommon.training.settings import Settings
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation, Split

PARTS = [
    *("..", ".", "/", "\\", "//", "../", "~", "C:", "victim", "model", "resume", "results.json", "maps"),
    *(" ", "\n", "\r", "\t", "\0", "\x1b[31m", "'", '"', "`", "|", "*", "?", "%", "$(id)", "%2e%2e%2f", ";"),
    *("=1+1", "@x", "-rf", "<b onclick=x>", "</script>", "{{data}}", "con", "NUL.txt", "com1", "\ud800"),
    *(
        "é",
        "e\u0301",
        "螺丝",
        "\u202e",
        "\u2028",
        "a" * 90,
        "螺" * 60,
        "x" * 300,
        "bolt",
        "Bolt",
        "all",
        "a.",
    ),
]
DEFECT = {"dataset": "folder", "setting": "one-class", "backbone": "b", "weights": "pretrained"}


@dataclass(frozen=True, kw_only=True)
class Recipe(Arithmetic):
    seed: int = 0


def hostile(generator: random.Random) -> str:
    """A name made of what leads elsewhere, breaks formats, or is no name on some system."""
    return "".join(generator.choices(PARTS, k=generator.randint(1, 4)))


def entries(images: Sequence[Path], generator: random.Random, around: Path) -> list[dict[str, object]]:
    """The rows of a list, most of them right."""
    names = ["bolt", hostile(generator), hostile(generator), str(around / "victim"), "../" * 3 + "victim"]
    category, defect = generator.choice(names), generator.choice(names)
    rows: list[dict[str, object]] = [
        {
            "image": str(image),
            "category": category if generator.random() < 0.9 else hostile(generator),
            "defect": defect if generator.random() < 0.9 else hostile(generator),
            "label": int(number >= 6),
            "split": "train" if number < 4 else "test",
        }
        for number, image in enumerate(images)
    ]
    if generator.random() < 0.2:
        generator.choice(rows)[generator.choice(list(rows[0]))] = generator.choice(
            [hostile(generator), None, -1, 2, "", [], {"a": 1}, 1e400, "../" * 9 + "etc/passwd"]
        )
    return rows


def write_csv(folder: Path, rows: list[dict[str, object]]) -> None:
    with (folder / "manifest.csv").open("w", newline="", errors="surrogatepass") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_lines(folder: Path, rows: list[dict[str, object]]) -> None:
    for split in ("train", "test"):
        lines = [
            {
                "filename": row["image"],
                "label": row["label"],
                "label_name": row["defect"],
                "clsname": row["category"],
            }
            for row in rows
            if row["split"] == split
        ]
        (folder / f"{split}.json").write_text("\n".join(map(json.dumps, lines)))


def write_meta(folder: Path, rows: list[dict[str, object]]) -> None:
    meta: dict[str, dict[str, list[dict[str, object]]]] = {"train": {}, "test": {}}
    for listed in rows:
        entry = {
            "img_path": listed["image"], "mask_path": "", "cls_name": listed["category"],
            "specie_name": listed["defect"], "anomaly": listed["label"],
        }  # fmt: skip
        meta["train" if listed["split"] == "train" else "test"].setdefault(
            str(listed["category"]), []
        ).append(entry)
    (folder / "meta.json").write_text(json.dumps(meta))


def write_arrays(folder: Path, rows: list[dict[str, object]]) -> None:
    def entry(row: dict[str, object]) -> dict[str, object]:
        return {"image_path": row["image"], "target": row["label"], "type": row["category"]}

    normal = [entry(row) for row in rows if row["label"] == 0]
    outlier = [entry(row) for row in rows if row["label"] == 1]
    for part, listed in (("normal", normal), ("val_normal", normal[4:]), ("val_outlier", outlier)):
        (folder / f"bolt_{part}.json").write_text(json.dumps(listed))


FORMS: dict[str, Callable[[Path, list[dict[str, object]]], None]] = {
    "csv": write_csv, "lines": write_lines, "ader": write_meta, "inctrl": write_arrays,
}  # fmt: skip


def pretend(splits: dict[str, Split], out: Path) -> None:
    """All that a training writes, without the training."""

    def train(split: Split, run, accelerator, stop) -> list[dict]:
        run.log(1, {"loss": 1.0})
        count = len(split.test)
        scores = Scores(
            split.test,
            Preprocess(image_size=8),
            np.arange(count, dtype=np.float32),
            np.zeros((count, 8, 8), np.float32),
        )
        if count:
            write_maps(scores, run.maps)
        facts = Facts(method="recontrast", seed=0, **DEFECT)
        evaluation = Evaluation(
            category=split.category, normal=1, anomalous=1, image_auroc=0.5, image_ap=0.5, image_f1max=0.5,
            image_threshold=0.5,
        )  # fmt: skip
        rows = [row(evaluation, facts, seconds=1.0)]
        save_trained(
            run.model, {"a": torch.zeros(1)}, Paper("t", "c"), facts, recipe=Recipe(),
            preprocess=Preprocess(image_size=8), categories=[split.category], rows=rows,
        )  # fmt: skip
        return rows

    settings = Settings(out=out, device="cpu")
    run_jobs("name", Recipe(), settings, splits, train=train, check=lambda: None)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking git takes longer than all the rest."""
    monkeypatch.setattr("adcommon.training.run.git_commit", lambda file: None)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = make_folder(tmp_path_factory.mktemp("photos"), good=6, defects=("dent",), defective=2, size=8)
    return sorted(folder.rglob("*.png"), key=lambda path: (path.parent.name != "good", path.name))


def try_lists(images: Sequence[Path], base: Path, seeds: range) -> int:
    """Give lists to everything that reads them and writes; how many were refused.

    Raises:
        AssertionError: something outside the folders for what is written was touched.
    """
    for name in ("victim/model", "victim/resume", "data"):
        (base / name).mkdir(parents=True)
        (base / name / "precious.txt").write_text("mine")
    refused = 0
    for seed in seeds:
        generator = random.Random(seed)
        lists, out = base / "data" / f"{seed}", base / "out" / "deep" / f"{seed}"
        lists.mkdir()
        FORMS[generator.choice(list(FORMS))](lists, entries(images, generator, base))
        with untouched(base, but=base / "out"):
            try:
                splits = load_splits("folder", lists)
                pretend(splits, out / "run")
                for form in ("csv", "lines", "ader", "inctrl"):
                    write_manifest(form, out / form, splits, None, per_category=form == "lines")  # type: ignore[arg-type]
                for split in splits.values():
                    write_references(out / "few.txt", draw_references(split.train, 1, seed=0), base)
            except UserError:
                refused += 1
            with suppress(UserError):
                check("folder", lists)
        if out.exists():
            written = {
                path.relative_to(base / "out" / "deep").parts[0] for path in (base / "out/deep").rglob("*")
            }
            assert written <= {str(number) for number in seeds}, (seed, written)
    assert sorted(path.name for path in base.iterdir()) in (["data", "out", "victim"], ["data", "victim"])
    return refused


def test_names_in_lists_lead_nowhere(images: list[Path], tmp_path: Path) -> None:
    refused = try_lists(images, tmp_path, range(60))
    assert 10 < refused < 58, "a test of which all or none is refused tells nothing"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_names_in_five_thousand_lists_lead_nowhere(images: list[Path], tmp_path: Path) -> None:
    for first in range(1000, 6000, 250):
        base = tmp_path / str(first)
        base.mkdir()
        assert try_lists(images, base, range(first, first + 250)) > 50
