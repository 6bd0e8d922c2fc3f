"""`ad compare` end to end: from a folder to a table, a page, a recommendation and the next command."""

import json
import re
from pathlib import Path

import pytest

from adcommon.testing.commands import call, refused, succeed
from adcommon.testing.trees import make_folder


def shown(page: Path) -> list[dict]:
    (data,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8")
    )
    return json.loads(data)


@pytest.mark.timeout(300)
def test_methods_are_compared_and_what_was_measured_is_kept(tmp_path: Path) -> None:
    parts, out = tmp_path / "parts", tmp_path / "out"
    make_folder(parts, good=32, defects=("scratch",), masks=True)
    said = succeed("ad", "init", parts).stdout
    assert f"uv run ad compare --config {tmp_path / 'ad.yaml'}" in said
    words = ["compare", "--config", tmp_path / "ad.yaml", "--out", out, "--device", "cpu"]
    words += ["--methods", "patchcore", "padim", "--jobs", "2"]
    first = succeed("ad", *words).stdout
    for part in ("image AUROC", "AUPRO", " of 3 ", "ms per image", "Use ", "uv run ad predict IMAGES"):
        assert part in first
    images = shown(out / "index.html")
    assert {frozenset(image["by"]) for image in images} == {frozenset({"padim", "patchcore"})}
    for image in images:
        for picture in (image["picture"], *(seen["picture"] for seen in image["by"].values())):
            assert (out / picture).read_bytes()[:3] == b"\xff\xd8\xff"
    recipe = (out / "padim" / "recipe.yaml").read_text()
    assert f"data: {parts}" in recipe
    assert "image_size: 128" in recipe
    measured = out / "padim" / "compared.json"
    before = measured.stat().st_mtime_ns
    assert succeed("ad", *words).stdout == first
    assert measured.stat().st_mtime_ns == before
    assert "other images, or other flags" in refused("ad", *words, "--false-alarm-rate", "0.3")
    (parts / "good" / "000.png").unlink()
    assert "other images, or other flags" in refused("ad", *words)


def test_where_there_is_no_time_nothing_is_begun(tmp_path: Path) -> None:
    parts, out = tmp_path / "parts", tmp_path / "out"
    make_folder(parts, good=32, defects=("scratch",))
    said = refused("ad", "compare", "--data", parts, "--out", out, "--minutes", "1e-6")
    assert said.count("there was no time left") >= 7
    assert not list(out.glob("*/command.log"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_defects_pieces_are_pasted_and_it_is_said(tmp_path: Path) -> None:
    parts, out = tmp_path / "parts", tmp_path / "out"
    make_folder(parts, good=24, defects=())
    done = succeed("ad", "compare", "--data", parts, "--out", out, "--device", "cpu", "--methods", "padim")
    assert "stand in for real defects" in done.stdout
    assert (out / "data" / "manifest.csv").exists()
    assert {image["anomalous"] for image in shown(out / "index.html")} == {True, False}


def test_what_cannot_be_compared_is_refused_before_work(tmp_path: Path) -> None:
    assert "--data DIR" in refused("ad", "compare", "--out", tmp_path / "out")
    make_folder(tmp_path / "parts", good=8, defects=("scratch",))
    words = ["compare", "--data", tmp_path / "parts", "--out", tmp_path / "out"]
    assert "patchcore" in refused("ad", *words, "--methods", "nomethod")
    assert "leave out --device" in refused("ad", *words, "--devices", "0,1", "--device", "cpu")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    assert "no run of this product" in refused("ad", *words)
    run = tmp_path / "run"
    small = ["--recipe", "small", "--image-size", "64", "--device", "cpu"]
    succeed("padim-train", "--data", tmp_path / "parts", "--out", run, *small)
    assert "of another run" in refused("ad", *words[:-1], run, "--force")
    assert (run / "parts" / "model" / "config.json").exists()
    assert call("ad", "compare", "--help").returncode == 0
