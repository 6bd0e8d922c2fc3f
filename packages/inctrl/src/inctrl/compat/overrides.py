"""The authors' command lines as ours: pairs KEY VALUE after the options, and options that nothing reads.

    python main.py --normal_json_path A.json ... --shot 4 TRAIN.BATCH_SIZE 16 OUTPUT_DIR here
    inctrl-train   --normal_json_path A.json ... --shot 4 --batch-size 16 --out here

A key is a flag here, or names what is done anyway and takes that value only, or is refused with a reason.
"""

import logging
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Literal

from adcommon.errors import BadValue, unknown_name

logger = logging.getLogger(__name__)

Command = Literal["train", "test"]

_FLAGS = {
    "train": {
        "TRAIN.BATCH_SIZE": "--batch-size",
        "TRAIN.CHECKPOINT_FILE_PATH": "--weights",
        "TEST.BATCH_SIZE": "--test-batch-size",
        "DATA_LOADER.NUM_WORKERS": "--workers",
        "RNG_SEED": "--seed",
        "OUTPUT_DIR": "--out",
    },
    "test": {
        "TRAIN.CHECKPOINT_FILE_PATH": "--weights",
        "TEST.BATCH_SIZE": "--batch-size",
        "TEST.CHECKPOINT_FILE_PATH": "--model",
        "DATA_LOADER.NUM_WORKERS": "--workers",
        "OUTPUT_DIR": "--out",
    },
}
"""Keys whose value is that of a flag."""

_MEANT = {
    "TEST.ENABLE": ("True", "both commands end with a test"),
    "TRAIN.DATASET": ("IC_dataset", "lists, --dataset or --data say what the images are"),
    "TRAIN.MIXED_PRECISION": ("False", "nothing reads it in the authors' code; use --precision"),
    "NUM_GPUS": ("1", "use --gpu cpu for none, torchrun --nproc_per_node N --no-python for several"),
    "DATA_LOADER.PIN_MEMORY": ("True", "it changes nothing, as features are computed once"),
}
_DONE_ANYWAY = {
    "train": _MEANT | {"TRAIN.ENABLE": ("True", "use inctrl-test")},
    "test": _MEANT | {"TRAIN.ENABLE": ("False", "use inctrl-train")},
}
"""Keys with the one value that is meant anyway, and why there is no other."""

_UNREAD_SECTION = "nothing reads that section in the authors' code"
_REFUSED = {
    "TRAIN.BATCH_SIZE": "inctrl-test trains nothing",
    "TEST.CHECKPOINT_FILE_PATH": "a training tests what it trained; use inctrl-test",
    "RNG_SEED": "a test draws nothing but references; use --reference-seeds",
    "SOLVER.BASE_LR": f"{_UNREAD_SECTION}; use --lr",
    "SOLVER.WEIGHT_DECAY": f"{_UNREAD_SECTION}; use --weight-decay",
    "SOLVER.MAX_EPOCH": f"{_UNREAD_SECTION}; use --epochs",
    "SOLVER.OPTIMIZING_METHOD": f"{_UNREAD_SECTION}; the optimiser is AdamW",
    "SOLVER.LR_POLICY": f"{_UNREAD_SECTION}; the learning rate is constant",
    "SOLVER.WARMUP_EPOCHS": f"{_UNREAD_SECTION}; the learning rate is constant",
}
"""Keys that are refused where they are no flag, and why."""

_LEFT_OVER = ("AUG", "MIXUP", "MVIT", "DATA")
"""Sections that nothing reads in the authors' code."""

_PROCESSES = {"--shard-id", "--num-shards", "--init-method"}
_UNREAD = {
    "train": _PROCESSES,
    "test": _PROCESSES | {"--dataset-dir", "--image-size", "--pretrained", "--steps-per-epoch"},
}
"""The authors' options that say nothing here: processes are torchrun's, and a trained model knows itself."""

_KEYS = sorted({*_FLAGS["train"], *_FLAGS["test"], *_DONE_ANYWAY["train"], *_REFUSED})
_SECTIONS = {*_LEFT_OVER, *(key.partition(".")[0] for key in _KEYS)}


def as_flags(arguments: Sequence[str], command: Command) -> list[str]:
    """The words of a command line with the authors' pairs and options as our flags.

    Raises:
        BadValue: a pair that is incomplete, or whose value has no meaning here.
        UnknownName: a key the authors' code has not.

    >>> as_flags(["--shot", "4", "TRAIN.BATCH_SIZE", "16"], "train")
    ['--shot', '4', '--batch-size', '16']
    """
    words = list(_without_unread(arguments, command))
    start = next((place for place, word in enumerate(words) if _is_key(word)), len(words))
    options, pairs = words[:start], words[start:]
    for key in pairs[::2]:
        if key.startswith("-"):
            raise BadValue(f"{key} comes after {pairs[0]}; pairs KEY VALUE come last")
    if len(pairs) % 2:
        raise BadValue(f"{pairs[-1]} has no value; expected pairs KEY VALUE after the options")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        options += _flag(key, value, command)
    return options


def _flag(key: str, value: str, command: Command) -> list[str]:
    """The flag of one pair; no words if it says what is done anyway."""
    if key in _FLAGS[command]:
        return [_FLAGS[command][key], value]
    if key in _DONE_ANYWAY[command]:
        meant, reason = _DONE_ANYWAY[command][key]
        if value != meant:
            raise BadValue(f"{key} is {value}; only {meant} has a meaning here: {reason}")
        return []
    if key in _REFUSED:
        raise BadValue(f"{key} cannot be set: {_REFUSED[key]}")
    if key.partition(".")[0] in _LEFT_OVER:
        raise BadValue(f"{key} cannot be set: {_UNREAD_SECTION}")
    raise unknown_name("configuration key", key, _KEYS)


def _is_key(word: str) -> bool:
    """True of a key and of one with a slip of the pen; other words may be of capitals too, A.JSON."""
    section, dot, name = word.partition(".")
    if not dot:
        return word in _KEYS
    return f"{section}{name}".isupper() and bool(get_close_matches(section, _SECTIONS, n=1, cutoff=0.75))


def _without_unread(arguments: Sequence[str], command: Command) -> Iterator[str]:
    """The words without options that say nothing here; the log names them."""
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        if name.replace("_", "-") not in _UNREAD[command]:
            yield word
            continue
        logger.warning("%s has no effect", name)
        if not equals:
            next(words, None)
