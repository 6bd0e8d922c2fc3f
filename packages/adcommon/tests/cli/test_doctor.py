import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from adcommon.cli import doctor
from adcommon.models import weights


@pytest.fixture
def page(monkeypatch, tmp_path: Path, capsys):
    """Prints the page in a home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AD_SERVE_TOKEN", "very secret")
    monkeypatch.setattr(weights, "KNOWN", {"tf_efficientnet_lite0.in1k": ""})

    def printed() -> str:
        doctor.doctor()
        return capsys.readouterr().out

    return printed


def test_the_page_names_what_decides_and_no_secret(page, tmp_path: Path) -> None:
    said = page()
    for part in ("adcommon", "python", "torch", "method recontrast", "adcommon[export]", "processor cores"):
        assert f"\n{part} " in said
    assert "~/cache (" in said
    assert "not there yet" in said
    assert "AD_SERVE_TOKEN              (set)" in said
    assert "secret" not in said
    assert str(tmp_path) not in said
    assert not (tmp_path / "cache").exists()


def test_likely_problems_come_with_what_to_do(page, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**26, 0, 2**30))
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    problems = page().partition("## likely problems")[2]
    for part in ("torch finds no GPU", "has 1.0 GB free, less than 5: choose with AD_CACHE", "--shm-size 2g"):
        assert part in problems
