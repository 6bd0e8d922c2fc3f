from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.errors import DatasetNotFound, UnknownName
from realnet.synthesis.foreground import ALL, NAMED, rule_for
from realnet.synthesis.items import make_items, samples_of


def test_without_any_download_anomalies_are_made_of_the_training_images(normal_dataset, tiny) -> None:
    items = make_items(normal_dataset(size=64), tiny, "bottle", Path("nowhere"))
    assert items.shares == {"normal": 0.5, "textures": 0.5}
    assert set(items.sources) == {"textures"}
    assert items.opacity["textures"] == tiny.texture_opacity
    batch = items.batch([0, 1, 2], step=0, normals=False)
    assert batch.anomalous.all()
    changed = (batch.images != batch.clean).any(dim=1)
    assert changed.any()
    assert not (changed & (batch.masks == 0)).any()


def test_samples_are_found_by_category(normal_dataset, tiny, tmp_path: Path) -> None:
    for folder in ("samples/bottle", "elsewhere/bottle/sdas"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / folder / "rank0_0.jpg")
    recipe = replace(tiny, anomaly_source="sdas", sdas_dir=tmp_path / "samples")
    assert samples_of(recipe, "bottle") == tmp_path / "samples" / "bottle"
    items = make_items(normal_dataset(size=64), recipe, "bottle", tmp_path)
    assert set(items.sources) == {"sdas"}
    pattern = replace(recipe, sdas_dir=tmp_path / "elsewhere" / "{}" / "sdas")
    assert samples_of(pattern, "bottle") == tmp_path / "elsewhere" / "bottle" / "sdas"


def test_missing_sources_say_how_to_get_them_or_to_do_without(normal_dataset, tiny, tmp_path) -> None:
    dataset = normal_dataset(size=64)
    with pytest.raises(DatasetNotFound, match=r"(?s)--sdas-dir names no folder.*realnet-sample.*textures"):
        make_items(dataset, replace(tiny, anomaly_source="sdas"), "bottle", tmp_path)
    with pytest.raises(DatasetNotFound, match=r"(?s)there is no folder.*realnet-sample"):
        make_items(
            dataset, replace(tiny, anomaly_source="sdas", sdas_dir=tmp_path / "no"), "bottle", tmp_path
        )
    with pytest.raises(DatasetNotFound, match="dtd"):
        make_items(dataset, replace(tiny, anomaly_source="dtd"), "bottle", tmp_path)


def test_the_foreground_is_the_papers_or_the_named_one() -> None:
    assert rule_for("mvtec", "bottle") == NAMED["otsu-dark"]
    assert rule_for("mvtec", "carpet") == rule_for("folder", "bottle") == ALL
    assert rule_for("mvtec", "bottle", "otsu-bright") == NAMED["otsu-bright"]
    with pytest.raises(UnknownName, match="did you mean 'otsu-dark'"):
        rule_for("mvtec", "bottle", "otsu-drak")
