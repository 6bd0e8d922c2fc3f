"""Arrays in files that somebody else may have written."""

from pathlib import Path

import numpy as np

from adcommon.errors import WrongCheckpoint
from adcommon.io.files import download_gone_wrong


def read_array(file: Path, kinds: str) -> np.ndarray:
    """The numbers in a .npy file, read-only and mapped: no header makes it larger than the file.

    Args:
        kinds: of numbers that are expected, as NumPy's letters: "f" are floats, "iu" whole numbers.

    Raises:
        FileNotFoundError: there is none.
        WrongCheckpoint: a damaged one, or one that holds something else: objects, other numbers, NaN.
    """
    try:
        array: np.ndarray = np.lib.format.open_memmap(file, mode="r")
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError, TypeError, OverflowError, MemoryError, SyntaxError) as error:
        reason = download_gone_wrong(file) or "it is damaged, or no file of numbers that NumPy wrote"
        raise WrongCheckpoint(f"cannot read {file}: {reason}") from error
    if array.dtype.kind not in kinds:
        raise WrongCheckpoint(
            f"{file} holds {array.dtype}; expected {'whole ' if 'f' not in kinds else ''}numbers"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WrongCheckpoint(f"{file} holds values that are not finite")
    return array
