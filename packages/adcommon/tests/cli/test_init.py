from pathlib import Path

import pytest
import yaml
from PIL import Image

from adcommon.cli.init import init
from adcommon.errors import OutputExists
from adcommon.testing.trees import make_folder, make_mvtec


def read(path: Path) -> tuple[dict, str]:
    text = path.read_text(encoding="utf-8")
    return yaml.safe_load(text), " ".join(line.removeprefix("# ") for line in text.splitlines())


def test_what_was_understood_is_explained_and_the_file_is_of_flags(tmp_path: Path) -> None:
    parts = make_folder(tmp_path / "my parts", good=40, size=300, defects=("dent",), masks=True)
    init(parts)
    flags, text = read(tmp_path / "ad.yaml")
    assert flags == {"data": str(parts), "image_size": 256, "false_alarm_rate": 0.05}
    assert "Good photographs: 40, 10 of them to test with, found in good." in text
    assert "Bad ones: 3 to test with; nothing learns from them, found in dent." in text
    assert "Masks, which mark the defects: 3, found in ground_truth/dent." in text
    assert "300x300 pixels" in text
    assert "0.05 needs 19 good ones" in text
    assert "keep a tenth out, 3, and need 190;" in text


def test_tiles_of_large_photographs_are_proposed(tmp_path: Path) -> None:
    for number in range(3):
        photo = tmp_path / "parts" / "good" / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1300, 1024), 40 * number).save(photo)
    init(tmp_path / "parts")
    flags, text = read(tmp_path / "ad.yaml")
    assert "tile" not in flags
    assert "9 of them make 9 times the work. Without the #: tile: 512" in text


def test_the_users_words_and_the_first_of_several_kinds_are_written_down(tmp_path: Path) -> None:
    parts = make_mvtec(tmp_path / "parts", train=12)
    init(parts, out=tmp_path / "here.yaml", bad=("spot",))
    flags, text = read(tmp_path / "here.yaml")
    assert flags == {
        **{"data": str(parts), "category": "alpha", "bad": ["spot"]},
        **{"image_size": 128, "false_alarm_rate": 0.1},
    }
    assert "2 kinds of parts: alpha, beta" in text
    assert "0.05 needs 19" in text


def test_too_few_photographs_are_said_and_a_file_is_not_written_over(tmp_path: Path) -> None:
    parts = make_folder(tmp_path / "parts", good=4)
    init(parts)
    _, text = read(tmp_path / "ad.yaml")
    assert "0.2 needs 4 good ones" in text
    assert "There are 3: scores only rank" in text
    (tmp_path / "ad.yaml").write_text("mine")
    with pytest.raises(OutputExists, match="--force"):
        init(parts)
    assert (tmp_path / "ad.yaml").read_text() == "mine"
    init(parts, force=True)
    assert [path.name for path in parts.iterdir()] == ["good"]
