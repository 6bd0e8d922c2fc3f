import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcommon.errors import WrongCheckpoint
from adcommon.io.arrays import read_array


def header(shape: str, dtype: str = "'<f4'") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_numbers_come_back(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(2, 3))
    assert (read_array(tmp_path / "a.npy", "f") == np.arange(6.0).reshape(2, 3)).all()
    with pytest.raises(FileNotFoundError):
        read_array(tmp_path / "b.npy", "f")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no array", "is damaged, or no file of numbers"),
        (b"<html>", "an HTML page"),
        (header("(10**13, 3)"), "is damaged"),
        (header("(10000000000000, 3)"), "is damaged"),
        (header("(-1, 3)"), "is damaged"),
        (header("(99999999999999999999999, 3)"), "is damaged"),
        (header("__import__('os').system('true')"), "is damaged"),
        (header("(2,)", "'|O'") + b"x" * 16, "is damaged"),
        (header("(2,)", "'<U4'") + b"x" * 32, "holds <U4; expected numbers"),
        (header("(2,)", "'<i8'") + b"\0" * 16, "holds int64; expected numbers"),
        (header("(1,)") + b"\0\0\xc0\x7f", "not finite"),
    ],
)
def test_what_holds_something_else_is_one_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(WrongCheckpoint, match=rf"a\.npy.*{message}") as error:
        read_array(tmp_path / "a.npy", "f")
    assert "pickle" not in str(error.value)


@given(st.data())
def test_a_damaged_array_is_an_error_or_an_array(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file, stored = tmp_path_factory.getbasetemp() / "damaged.npy", io.BytesIO()
    np.save(stored, np.ones(4, np.float32))
    content = bytearray(stored.getvalue())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(WrongCheckpoint):
        read_array(file, "f")
