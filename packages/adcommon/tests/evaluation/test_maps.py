"""Every test image has its picture and its line, whatever it is called."""

import csv
import os
from pathlib import Path

import numpy as np
from PIL import Image

from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.maps import write_maps
from adcommon.io.text import csv_value
from adcommon.types.records import Record
from adcommon.types.threshold import calibrate

NAMES = [b"caf\xe9.png", b"=x.png", b"a\nb.png", b"A.png", b"a.png", b"a.bmp", b"con.png", b"#%20 1.png"]


def test_any_name_has_a_picture_and_a_line(tmp_path: Path) -> None:
    paths = [tmp_path / os.fsdecode(name) for name in NAMES]
    for path in paths:
        Image.new("RGB", (20, 20)).save(path)
    records = [Record(path, "nut", 0) for path in paths]
    scores = np.arange(len(paths), dtype=np.float32)
    maps = np.zeros((len(paths), 16, 16), dtype=np.float32)
    threshold = calibrate([2.5] * 19)
    write_maps(Scores(records, Preprocess(image_size=16), scores, maps), tmp_path / "maps", threshold)
    with (tmp_path / "maps" / "scores.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [Path(csv_value(line["image"])) for line in lines] == paths
    assert [line["decision"] for line in lines] == ["normal"] * 3 + ["anomalous"] * 5
    pictures = {path.name.casefold() for path in (tmp_path / "maps" / "good").iterdir()}
    assert len(pictures) == len(paths)
    assert {"=x.jpg", "#%20 1.jpg"} <= pictures
    page = (tmp_path / "maps" / "index.html").read_text(encoding="utf-8")
    assert page.count('"picture"') == len(paths)
