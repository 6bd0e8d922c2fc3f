"""What is in a file of tensors comes out, and no code of it runs, whatever the file says of itself."""

import argparse
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from adcommon.errors import UserError, WrongCheckpoint
from adcommon.models.pickles import load_foreign, load_safely, number_in, read_safetensors, state_dict_in


class Harmful:
    """Unpickled by the unrestricted loader it would leave a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "older format"])
@pytest.mark.parametrize("name", ["model.pth", "model.pt", "model.pth.tar"])
def test_authors_files_load_in_both_formats_whatever_their_suffix(
    tmp_path: Path, name: str, zipped: bool
) -> None:
    content = {"state_dict": OrderedDict(w=torch.arange(4.0)), "epoch": 3, "best": [0.5, None, "x"]}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    loaded = load_foreign(tmp_path / name)
    assert torch.equal(loaded["state_dict"]["w"], torch.arange(4.0))
    assert (loaded["epoch"], loaded["best"]) == (3, [0.5, None, "x"])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "older format"])
def test_code_in_a_file_does_not_run(tmp_path: Path, zipped: bool) -> None:
    trap = tmp_path / "harm"
    torch.save({"w": Harmful(str(trap))}, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WrongCheckpoint, match=r"bad\.pth is refused: it would run \S*open; do not use"):
        load_foreign(tmp_path / "bad.pth")
    assert not trap.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip format", "older format"])
def test_a_class_must_be_named_to_be_built(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "args.pth"
    content = {"args": argparse.Namespace(lr=0.1), "w": torch.ones(1)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WrongCheckpoint, match=r"class argparse\.Namespace"):
        load_foreign(path)
    assert load_foreign(path, safe_classes=[argparse.Namespace])["args"].lr == 0.1
    with pytest.raises(WrongCheckpoint, match=r"class argparse\.Namespace"):
        load_foreign(path)  # what was allowed once is not allowed for ever


def test_a_stand_in_replaces_a_class_that_is_not_installed(tmp_path: Path) -> None:
    path = tmp_path / "cfg.pth"
    class_of_theirs = type("Namespace", (argparse.Namespace,), {"__module__": "argpars_"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "argpars_", SimpleNamespace(Namespace=class_of_theirs))
        torch.save({"args": class_of_theirs(lr=0.1)}, path)
    with pytest.raises(WrongCheckpoint, match=r"class argpars_\.Namespace"):
        load_foreign(path)

    class StandIn(argparse.Namespace):
        pass

    assert load_foreign(path, safe_classes=[(StandIn, "argpars_.Namespace")])["args"].lr == 0.1


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(WrongCheckpoint, match=r"no checkpoint at .*weights\.pth"):
        load_foreign(path)
    for text, reason in (
        ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("<!DOCTYPE html>", "HTML"),
        ("", "empty"),
    ):
        path.write_text(text)
        with pytest.raises(WrongCheckpoint, match=reason):
            load_foreign(path)
    torch.save([torch.ones(1)], path)
    with pytest.raises(WrongCheckpoint, match="holds a list, expected a dict"):
        load_foreign(path)
    save_file({"w": torch.ones(1)}, path)
    with pytest.raises(WrongCheckpoint, match="cannot read the checkpoint"):
        load_foreign(path)


class Runs:
    """What would be called with these arguments."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


def written(path: Path, content: object, form: str) -> Path:
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content, protocol=4))
    elif form == "old pickle":
        path.write_bytes(pickle.dumps(content, protocol=0))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    return path


@pytest.mark.parametrize("form", ["zip", "older", "plain pickle", "old pickle"])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("true",), "system"),
        (eval, ("1",), "eval"),
        (getattr, (1, "real"), "getattr"),
        (bytearray, (10**11,), "bytearray"),
    ],
)
def test_what_would_run_is_named_in_our_own_words(
    tmp_path: Path, form: str, function: Callable[..., object], arguments: tuple[Any, ...], name: str
) -> None:
    path = written(tmp_path / "evil.pth", {"w": torch.ones(2), "x": Runs(function, *arguments)}, form)
    with pytest.raises(WrongCheckpoint) as error:
        load_safely(path)
    message = str(error.value)
    assert "refused: it would run " in message
    assert f"{name}; do not use this file" in message
    assert not any(advice in message for advice in ("weights_only", "torch.load", "pickle.load"))


def test_a_program_or_a_compressed_archive_is_no_checkpoint(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(WrongCheckpoint, match=r"is a program \(TorchScript\)"):
        load_safely(tmp_path / "script.pt")
    torch.save({"w": torch.zeros(1000)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as archive,
        zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in archive.namelist():
            small.writestr(name, archive.read(name))
    with pytest.raises(WrongCheckpoint, match="compresses nothing"):
        load_safely(tmp_path / "small.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(300_000, 300_000),
        torch.zeros(1).half().as_strided((10**6, 10**6), (0, 0)),
        torch.sparse_coo_tensor([[0]], [1.0], (10**9,)),
        torch.empty(10**12, device="meta"),
    ],
    ids=["expanded", "strided", "sparse", "meta"],
)
def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"deep": [{"w": tensor}]}, tmp_path / "a.pth")
    with pytest.raises(WrongCheckpoint, match=r"not stored as such|is damaged"):
        load_safely(tmp_path / "a.pth")


def test_a_content_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {"w": torch.ones(1)}
    content["again"] = content
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WrongCheckpoint, match="damaged, or holds more than"):
        load_safely(tmp_path / "a.pth")


def test_other_files_and_other_contents_are_one_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "a.npz", np.zeros(3))
    (tmp_path / "a.txt").write_text("no checkpoint")
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(WrongCheckpoint, match=r"damaged, or holds more|compresses nothing"):
            load_safely(file)
        with pytest.raises(WrongCheckpoint, match="it is damaged, or no file of safetensors"):
            read_safetensors(file)
    torch.save({1: torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(WrongCheckpoint, match="expected a dict"):
        load_foreign(tmp_path / "a.pth")
    with pytest.raises(WrongCheckpoint, match="lr is a float; expected names and tensors"):
        state_dict_in({"w": torch.ones(1), "lr": 0.1}, "a.pth")
    with pytest.raises(WrongCheckpoint, match="holds no state dict"):
        state_dict_in([torch.ones(1)], "a.pth")
    assert number_in(np.float64(0.5), "best") == 0.5
    with pytest.raises(WrongCheckpoint, match="best is a str; expected a number"):
        number_in("0.5", "best")


@given(st.data(), st.sampled_from(["zip", "older"]))
def test_a_damaged_file_is_an_error_or_what_it_was(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, form: str
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.pth"
    content = bytearray(written(path, {"w": torch.arange(8.0), "epoch": 3}, form).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(UserError):
        load_safely(path)
