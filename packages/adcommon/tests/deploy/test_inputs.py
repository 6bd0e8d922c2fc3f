from pathlib import Path

from adcommon.deploy.inputs import list_inputs


def test_images_come_as_people_count(tmp_path: Path) -> None:
    for name in ("10.png", "9.png", "b/IMG_2.jpg", "b/IMG_11.jpg", "a/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in list_inputs(tmp_path).images]
    assert names == ["9.png", "10.png", "a/x.png", "b/IMG_2.jpg", "b/IMG_11.jpg"]
