from collections.abc import Callable
from pathlib import Path

import pytest

from adcommon.testing.surroundings import untouched

CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda folder: (folder / "new").write_text("x"),
    "changed": lambda folder: (folder / "a").write_text("y"),
    "deleted": lambda folder: (folder / "a").unlink(),
    "made": lambda folder: (folder / "deep" / "er").mkdir(),
    "turned": lambda folder: [(folder / "link").unlink(), (folder / "link").symlink_to("b")],
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen_but_that_which_is_allowed(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "around"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_text("x")
    (folder / "link").symlink_to("a")
    with untouched(tmp_path):
        pass
    with pytest.raises(AssertionError, match="around"), untouched(tmp_path):
        CHANGES[change](folder)
    with untouched(tmp_path, but=folder):
        (folder / "more").write_text("x")
