"""A backbone alone is enough, and what an error proposes works as it is written."""

import re
from pathlib import Path

import pytest

from adcommon.models.backbones import SUITABLE
from adcommon.testing.commands import refused, succeed
from adcommon.testing.trees import make_folder, make_mvtec

COMMANDS = ("recontrast", "uniad", "realnet", "resad", "padim", "patchcore")
WRONG = [
    ("recontrast", "--image-size 100"),
    ("recontrast", "--crop-size 100"),
    ("recontrast", "--image-size 128 --crop-size 160"),
    ("uniad", "--image-size 100"),
    ("uniad", "--pool 300"),
    ("uniad", "--hidden-dim 100"),
    ("realnet", "--image-size 100"),
    ("realnet", "--pool 300"),
    ("realnet", "--rrs-modes max:500 mean:500"),
    ("realnet", "--structure layer2:24+layer3:100@8 --rrs-modes max:8"),
    ("realnet", "--hidden-ratio 0.001"),
    ("resad", "--feature-levels 9"),
    ("resad", "--pos-embed-dim 30"),
    ("inctrl", "--batch-size 1"),
    ("inctrl", "--out-stride 999"),
    ("inctrl", "--shots 1"),
    ("padim", "--image-size 100"),
    ("padim", "--image-size 128 --crop-size 224"),
    ("padim", "--crop-size 100"),
]
FLAG = re.compile(r"--[a-z-]+(?: [\w:@+.]*\d[\w:@+.]*)+")
"""A flag and its values, each of which has a digit."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    make_mvtec(folder / "mvtec", categories=("bottle",))
    make_folder(folder / "parts", defects=("scratch",), seed=1)
    return folder


def words(method: str, parts: Path, given: str) -> list[str]:
    """A training of a method on one's own images."""
    seen = {"resad": "--setting mvtec_to_folder", "inctrl": "--dataset mvtec"}.get(method, "")
    seen += " --train-category bottle" if seen else ""
    where = f"--data {parts / 'parts'} --data-root {parts} --recipe small --weights random --device cpu"
    return f"{where} {seen} {given}".split()


def catch_run(method: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple, dict]]:
    """What a method's command would have trained with."""
    package = f"baselines.{method}" if method in ("padim", "patchcore") else method
    asked: list[tuple[tuple, dict]] = []
    monkeypatch.setattr(f"{package}.cli.run", lambda *given, **named: asked.append((given, named)))
    return asked


@pytest.mark.parametrize("method", COMMANDS)
def test_a_backbone_without_stages_is_answered_with_some_that_work(
    method: str, parts: Path, tmp_path: Path
) -> None:
    given = words(method, parts, f"--backbone vit_small_patch16_224 --out {tmp_path / 'run'}")
    assert SUITABLE in refused(f"{method}-train", *given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("realnet", "--backbone resnet18 --image-size 64 --iterations 1 --epochs 1 --afs-batches 1"),
        ("padim", "--backbone mobilenetv3_small_100"),
        ("padim", "--backbone vit_tiny_patch16_224 --layers 5 11"),
        ("inctrl", "--backbone vit_tiny_patch16_224 --shots 2 --epochs 1 --steps-per-epoch 1 --batch-size 2"),
    ],
)
@pytest.mark.slow
def test_a_backbone_alone_is_enough(method: str, given: str, parts: Path, tmp_path: Path) -> None:
    succeed(f"{method}-train", *words(method, parts, given), "--out", tmp_path / "run")


@pytest.mark.parametrize(("method", "wrong"), WRONG)
def test_what_an_error_proposes_is_accepted(
    method: str, wrong: str, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = catch_run(method, monkeypatch)
    said = refused(f"{method}-train", *words(method, parts, wrong))
    proposed = {found.split()[0]: found for found in FLAG.findall(said)}
    kept = {found.split()[0]: found for found in FLAG.findall(wrong) if "leave out" not in said}
    succeed(f"{method}-train", *words(method, parts, " ".join({**kept, **proposed}.values())))
    assert trained
    assert proposed or "leave out" in said, said


@pytest.mark.parametrize("method", [*COMMANDS, "inctrl"])
def test_a_file_that_names_ones_own_images_chooses_the_recipe_for_them(
    method: str, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = catch_run(method, monkeypatch)
    file = tmp_path / "ad.yaml"
    succeed("ad", "init", parts / "parts", "--out", file)
    where = words(method, parts, f"--config {file}")[2:]  # but for --data
    place = where.index("--recipe")
    succeed(f"{method}-train", *where[:place], *where[place + 2 :])
    (given, named) = asked[0]
    assert named["name"] == f"{method}-own"
    assert (given[0].image_size, given[-1].data, given[-1].false_alarm_rate) == (128, parts / "parts", 0.2)


def test_what_the_user_named_is_kept_and_refused_where_it_cannot_be(parts: Path, tmp_path: Path) -> None:
    given = f"--backbone convnext_tiny --out {tmp_path / 'run'} --strides 2 4 8 16"
    assert "asked for 2, 4, 8, 16" in refused("uniad-train", *words("uniad", parts, given))
    file = tmp_path / "flags.yaml"
    file.write_text("features: 150\n")
    given = f"--backbone mobilenetv3_small_100 --out {tmp_path / 'run'} --config {file}"
    said = refused("padim-train", *words("padim", parts, given))
    assert "at most --features 88" in said
