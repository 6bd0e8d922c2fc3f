import re

import pytest

from adcommon.errors import UserError
from inctrl.compat.overrides import as_flags


def test_pairs_after_the_options_become_flags() -> None:
    options = ["--val_normal_json_path", "A.json", "B.JSON", "--shot", "4"]
    pairs = "TRAIN.BATCH_SIZE 48 TEST.BATCH_SIZE 1 RNG_SEED 3 OUTPUT_DIR here DATA_LOADER.NUM_WORKERS 4 "
    pairs += "TRAIN.CHECKPOINT_FILE_PATH clip.pt NUM_GPUS 1 TRAIN.ENABLE True TEST.ENABLE True"
    train = as_flags([*options, *pairs.split()], "train")
    assert train == [
        *options,
        *("--batch-size", "48", "--test-batch-size", "1", "--seed", "3", "--out", "here", "--workers", "4"),
        *("--weights", "clip.pt"),
    ]
    test = as_flags(["TEST.CHECKPOINT_FILE_PATH", "c.pyth", "TEST.BATCH_SIZE", "8"], "test")
    assert test == ["--model", "c.pyth", "--batch-size", "8"]


@pytest.mark.parametrize(
    "words", [["--category", "CAM_1", "CAM_2"], ["--out", "MY_RUN"], ["--data", "A.B.png"]]
)
def test_words_that_only_look_like_keys_stay(words) -> None:
    assert as_flags(words, "train") == words


def test_options_that_nothing_reads_are_dropped_and_named(caplog: pytest.LogCaptureFixture) -> None:
    words = [
        "--shard_id",
        "0",
        "--init_method=tcp://localhost:8888",
        "--category",
        "candle",
        "--dataset_dir",
        "./",
    ]
    assert as_flags(words, "test") == ["--category", "candle"]
    assert [record.getMessage() for record in caplog.records] == [
        "--shard_id has no effect",
        "--init_method has no effect",
        "--dataset_dir has no effect",
    ]
    assert as_flags(["--image_size", "64"], "train") == ["--image_size", "64"]


@pytest.mark.parametrize(
    ("command", "pairs", "message"),
    [
        ("train", "TRAIN.BATCH_SIZ 8", "did you mean 'TRAIN.BATCH_SIZE'"),
        ("train", "TRIAN.BATCH_SIZE 8", "did you mean 'TRAIN.BATCH_SIZE'"),
        ("train", "TRAIN.BATCH_SIZE", "TRAIN.BATCH_SIZE has no value"),
        ("train", "TRAIN.BATCH_SIZE 8 --epochs 3", "--epochs comes after TRAIN.BATCH_SIZE"),
        ("train", "SOLVER.BASE_LR 1e-3", "use --lr"),
        ("train", "SOLVER.MAX_EPOCH 3", "use --epochs"),
        ("train", "MIXUP.ENABLE True", "nothing reads that section"),
        ("train", "TEST.CHECKPOINT_FILE_PATH c.pyth", "use inctrl-test"),
        ("train", "NUM_GPUS 2", "torchrun --nproc_per_node N"),
        ("train", "TRAIN.ENABLE False", "use inctrl-test"),
        ("train", "TRAIN.DATASET other", "only IC_dataset"),
        ("test", "TRAIN.ENABLE True", "use inctrl-train"),
        ("test", "TRAIN.BATCH_SIZE 8", "inctrl-test trains nothing"),
        ("test", "RNG_SEED 3", "use --reference-seeds"),
    ],
)
def test_a_pair_without_a_meaning_is_refused_with_a_reason(command, pairs: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        as_flags(["--shot", "2", *pairs.split()], command)
