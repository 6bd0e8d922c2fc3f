from pathlib import Path

import pytest

from adcommon.errors import UnknownName, WrongCheckpoint
from adcommon.methods import commands, find, installed, load_folder


def test_installed_methods_are_found_without_being_imported_by_name() -> None:
    assert "recontrast" in installed()
    assert find("recontrast").__name__ == "load_detector"
    assert "recontrast-mvtec" in commands("recontrast")
    assert "winclip-test" in commands("inctrl")
    assert commands("padim") == ["padim-evaluate", "padim-predict", "padim-train"]


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'recontrast'\?"):
        find("recontrst")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongCheckpoint, match=r"config\.json"):
        load_folder(tmp_path)
