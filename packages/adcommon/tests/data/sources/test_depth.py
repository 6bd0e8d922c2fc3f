from pathlib import Path

import pytest

from adcommon.data import find_categories, load_records
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.testing.downloads import draw, make_download


@pytest.mark.parametrize(
    ("name", "instead"),
    [("mvtec3d", "--dataset mvtec_3d"), ("Eyecandies", "--data DIR"), ("real3d-ad", "point clouds alone")],
)
def test_a_dataset_of_depth_says_what_of_it_can_be_read(name: str, instead: str) -> None:
    with pytest.raises(BadValue, match=f"{name}: depth and 3D are not supported; .*{instead}"):
        load_records(name, Path("data"), "bagel")


def test_coordinates_beside_colours_are_refused_with_what_can_be_read(tmp_path: Path) -> None:
    bagel = make_download("mvtec_3d", tmp_path / "raw") / "bagel"
    with pytest.raises(BadValue, match=r"xyz: depth and 3D are not supported; .*\n.*--dataset mvtec_3d"):
        find_categories("folder", bagel)


def test_point_clouds_are_named_where_they_are_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cloud = tmp_path / "parts/good/0.pcd"
    cloud.parent.mkdir(parents=True)
    cloud.touch()
    with pytest.raises(DatasetNotFound, match=r"point clouds \(depth and 3D are not supported\)"):
        find_categories("folder", tmp_path / "parts")
    for number in range(4):
        draw(cloud.with_name(f"{number}.png"))
    assert len(load_records("folder", tmp_path / "parts", "parts").train) == 3
    assert "1 point clouds (depth and 3D are not supported)" in caplog.text
