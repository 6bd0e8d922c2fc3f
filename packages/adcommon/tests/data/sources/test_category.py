"""Folders as people make them: understood, or refused with a question; never guessed in silence."""

import itertools
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import find_categories, load_splits
from adcommon.data.check.dataset import check
from adcommon.data.sources.meaning import NOTHING, Meaning
from adcommon.errors import BadValue, DatasetNotFound, MaskMissing, UserError
from adcommon.types.records import Split


def draw(root: Path, *specs: str) -> Path:
    """Draw noisy pictures: "FOLDER COUNT", masks: "FOLDER COUNT mask", or files: "FOLDER COUNT .suffix".

    A name may follow, in which {} is the number.
    """
    for number, spec in enumerate(specs):
        folder, count, *rest = (part.strip() for part in spec.split("|"))
        kind, name = [*rest, "", ""][:2]
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(int(count)):
            path = root / folder / (name or "{:03d}.png").format(index)
            if kind == "mask":
                pixels = np.zeros((12, 12), dtype=np.uint8)
                pixels[2 : 4 + index, 3:6] = 255
                Image.fromarray(pixels).save(path)
            elif kind == "file":
                path.write_bytes(b"x")
            else:
                generator = np.random.default_rng([number, index])
                Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    return root


def counts(split: Split) -> str:
    """How many train, test as normal, and as each defect, with how many masks: "6 2 dent 3 +3"."""
    defects = Counter(record.defect for record in split.test if record.label)
    masks = sum(record.mask is not None for record in split.test)
    words = [str(len(split.train)), str(sum(record.label == 0 for record in split.test))]
    words += [f"{name} {count}" for name, count in sorted(defects.items())] + ([f"+{masks}"] if masks else [])
    return " ".join(words)


UNDERSTOOD = {
    "Good Parts | 8, Defective/Scratch | 3, Defective/Dent | 2": "6 2 Dent 2 Scratch 3",
    "Good Parts | 8, Defective | 3": "6 2 Defective 3",
    "i.O. | 8, n.i.O. | 3": "6 2 n.i.O 3",
    "PASS | 8, FAIL | 3": "6 2 FAIL 3",
    "ok | 8, side view | 3": "6 2 side view 3",
    "IO_Teile | 8, NIO | 3": "6 2 NIO 3",
    "normal | 8, abnormal | 3, mask | 3 | mask": "6 2 abnormal 3 +3",
    "good | 8, crack | 3, mask/crack | 3 | mask | {:03d}_Mask.PNG": "6 2 crack 3 +3",
    "good | 8, crack/images | 3, crack/masks | 3 | mask": "6 2 crack 3 +3",
    "good | 8, Dent | 3, Ground Truth/dent | 3 | mask | {:03d}_GT.bmp": "6 2 Dent 3 +3",
    "good | 8, dent | 3, dent | 3 | mask | {:03d}_mask.png": "6 2 dent 3 +3",
    "good | 8, bad/a | 2, bad/b | 2, labels/a | 2 | mask, labels/b | 2 | mask": "6 2 a 2 b 2 +4",
    "good | 8, Dent | 1, dent | 1 | | b.png": "6 2 Dent 2",
    "images/good | 8, images/bad | 3, masks/bad | 3 | mask": "6 2 bad 3 +3",
    "good/lot2 | 4, good | 4, dent/more/still | 3": "6 2 dent 3",
    "train/good | 8, train/good/lot2 | 2, test/good | 1, test/dent/more | 3": "10 1 dent 3",
    "Train/lot1 | 4, Train/lot2 | 4, TEST/OK | 1, TEST/NOK | 3": "8 1 NOK 3",
    "train/good | 8, val/good | 1, val/bad | 3": "8 1 bad 3",
    "good/train | 8, good/test | 1, bad/test | 3": "8 1 bad 3",
    "train/good | 8, test/good | 1, test/x | 3, ground_truth/test/x | 3 | mask": "8 1 x 3 +3",
    "train/good | 8, test/good | 1, test/x | 3, test/masks/x | 3 | mask": "8 1 x 3 +3",
    "train/good | 8, bad | 3": "6 2 bad 3",
    ". | 8, lot2 | 4": "9 3",
    "train_good | 8, test_good | 1, test_bad | 3, test_masks | 3 | mask": "8 1 test_bad 3 +3",
    "normal_dir | 8, abnormal_dir | 3, mask_dir | 3 | mask": "6 2 abnormal_dir 3 +3",
    "OK | 8, NG | 3, NG_mask | 3 | mask": "6 2 NG 3 +3",
    "good | 8, crack | 2, dent | 2, Crack-Mask | 2 | mask, dent_gt | 2 | mask": "6 2 crack 2 dent 2 +4",
    "good | 8, dent | 3, gt | 3 | mask | mask-{:03d}.png": "6 2 dent 3 +3",
    "good | 8, dent | 3, dent | 3 | mask | {:03d}-seg.png": "6 2 dent 3 +3",
    "good | 8, dent?: | 2, nul | 2": "6 2 _nul 2 dent__ 2",
}


@pytest.mark.parametrize(("layout", "expected"), UNDERSTOOD.items())
def test_what_people_mean_is_understood(tmp_path: Path, layout: str, expected: str) -> None:
    root = draw(tmp_path / "parts", *layout.split(", "))
    (split,) = load_splits("folder", root).values()
    assert counts(split) == expected
    assert not [problem for problem in check("folder", root) if problem.severity == "error"]


ASKED = {
    "Defective/a | 3, Defective/b | 3": "no folder says which images are normal",
    "fine | 8, scratched | 3": "no folder says which images are normal",
    ". | 8, bad | 3": "no folder says which images are normal",
    ". | 8, side view | 3": "no folder says which images are normal",
    "positive | 8, negative | 3": "no folder says which images are normal",
    "0 | 8, 1 | 3": "no folder says which images are normal",
    ". | 8, masks | 8 | mask": "no folder says which images are anomalous",
    "images | 8, labels | 8 | mask": "no folder says which images are anomalous",
    "good | 8, dent | 3, Masken | 3 | mask": "the pictures in Masken have few values",
    "good | 8, dent | 3, label | 3": "label may hold masks by name",
    "good | 8, good/bad | 3": r"contradict each other \(good/bad\)",
    "good | 8, dent/ok | 3": r"contradict each other \(dent/ok\)",
    "good | 8, pass_fail | 3": r"contradict each other \(pass_fail\)",
    "train/bolt/good | 8, test/bolt/good | 3, test/bolt/dent | 3": "each one's folder holds its own train",
    "good | 8, good_dark | 3": "good_dark may be good or not",
    "train/good | 8, test | 3": "nothing says whether the images in test are normal",
}


@pytest.mark.parametrize(("layout", "question"), ASKED.items())
def test_what_is_unclear_is_asked(tmp_path: Path, layout: str, question: str) -> None:
    root = draw(tmp_path / "parts", *layout.split(", "))
    with pytest.raises(
        BadValue, match=rf"{question}(.|\n)*: \d images(.|\n)*--good NAME, --bad NAME, --masks NAME"
    ):
        load_splits("folder", root)
    (error,) = [problem for problem in check("folder", root) if problem.severity == "error"]
    assert "--good NAME" in error.message


ANSWERED = [
    ("fine | 8, scratched | 3", Meaning(good=("fine",)), "6 2 scratched 3"),
    (". | 8, bad | 3", Meaning(good=(".",)), "6 2 bad 3"),
    (". | 8, side view | 4", Meaning(good=(".", "side view")), "9 3"),
    ("positive | 8, negative | 3", Meaning(good=("positive",), bad=("negative",)), "6 2 negative 3"),
    ("good | 8, dent | 3, Masken | 3 | mask", Meaning(masks=("Masken",)), "6 2 dent 3 +3"),
    ("good | 8, dent | 3, label | 3 | | b{}.png", Meaning(bad=("label",)), "6 2 dent 3 label 3"),
    ("good | 8, good/bad | 3", Meaning(bad=("good/bad",)), "6 2 bad 3"),
    ("good | 8, good_dark | 4", Meaning(good=("good_dark",)), "9 3"),
    ("good | 8, good_dark | 4", Meaning(bad=("good_dark",)), "6 2 good_dark 4"),
    ("train/good | 8, test | 3", Meaning(bad=("test",)), "8 0 test 3"),
    ("train/north | 8, test/good | 1, test/bad | 3", Meaning(good=("north",)), "8 1 bad 3"),
    ("good | 8, x | 3, masks/x | 3 | mask", Meaning(bad=("x",)), "6 2 x 3 +3"),
]


@pytest.mark.parametrize(("layout", "meaning", "expected"), ANSWERED)
def test_flags_answer_the_question(tmp_path: Path, layout: str, meaning: Meaning, expected: str) -> None:
    root = draw(tmp_path / "parts", *layout.split(", "))
    (split,) = load_splits("folder", root, meaning=meaning).values()
    assert counts(split) == expected
    assert not [problem for problem in check("folder", root, meaning=meaning) if problem.severity == "error"]


def test_the_question_names_what_could_not_be_read(tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere", ". | 3")
    draw(tmp_path / "parts", "bad | 3").joinpath("good").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadValue, match=r"not read: 1 links to folders, which are not followed: .*parts/good"):
        load_splits("folder", tmp_path / "parts")


def test_a_user_who_says_good_does_not_make_bad_images_train(tmp_path: Path) -> None:
    root = draw(tmp_path, "fine | 8", "fine/rejects | 3")
    with pytest.raises(BadValue, match=r"contradict each other \(fine/rejects\)"):
        load_splits("folder", root, meaning=Meaning(good=("fine",)))


@pytest.mark.parametrize(
    ("layout", "meaning", "message"),
    [
        ("good | 8", Meaning(good=("god",)), r"--good god: no folder of that name(.|\n)*have: good"),
        ("good | 8, x | 1", Meaning(good=("x",), bad=("x",)), "--good and --bad both name the folder x"),
        (
            "train/good | 8, train/bad | 3, test/bad | 1",
            NOTHING,
            r"'bad' among the training(.|\n)*--good bad",
        ),
        ("Bolt/good | 8, bolt/good | 8", NOTHING, "the categories 'Bolt' and 'bolt' are one folder"),
        ("good | 8, a | 2, b | 2, masks | 2 | mask", NOTHING, r"one mask, .*000\.png, for 2 images"),
        (
            "good | 8, a | 2, gt/a | 2 | mask, gt/a | 2 | mask | {:03d}_mask.png",
            NOTHING,
            "2 masks for one image",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, layout: str, meaning: Meaning, message: str) -> None:
    root = draw(tmp_path / "parts", *layout.split(", "))
    with pytest.raises(BadValue, match=message):
        load_splits("folder", root, meaning=meaning)


@pytest.mark.parametrize("masks", ["mask", "file"])
@pytest.mark.parametrize(
    ("suffix", "why"), [("jpg", "JPEG changes values"), ("gif", "masks are PNG"), ("npy", "")]
)
def test_what_lies_where_a_mask_is_missing_is_said(tmp_path: Path, suffix: str, why: str, masks: str) -> None:
    if masks == "mask" and suffix == "npy":
        masks = "file"
    root = draw(tmp_path, "good | 8", "dent | 3", f"mask/dent | 3 | {masks} | {{:03d}}.{suffix}")
    if suffix == "jpg" and masks == "file":
        return  # no picture at all, which is asked about
    with pytest.raises(
        MaskMissing, match=rf"3 anomalous images(.|\n)*There lies .*mask/dent/000\.{suffix}: .*{why}"
    ):
        load_splits("folder", root)


def test_several_categories_lie_at_any_depth(tmp_path: Path) -> None:
    draw(tmp_path, "a/bolt/good | 8", "b/bolt/ok | 8", "b/nut/good | 8", "b/nut/NG | 2", "IO_board/good | 8")
    draw(tmp_path, "IO_board/bad | 2", "label/train/good | 4", "label/test/torn | 1", "resume/good | 4")
    assert find_categories("folder", tmp_path) == ("IO_board", "a_bolt", "b_bolt", "nut", "label", "_resume")
    assert {name: counts(split) for name, split in load_splits("folder", tmp_path).items()} == {
        "IO_board": "6 2 bad 2",
        "a_bolt": "6 2",
        "b_bolt": "6 2",
        "nut": "6 2 NG 2",
        "label": "4 0 torn 1",
        "_resume": "3 1",
    }


def test_masks_may_stand_above_the_categories(tmp_path: Path) -> None:
    draw(tmp_path, "bolt/good | 8", "bolt/bad | 2", "nut/good | 8", "nut/bad | 3")
    draw(tmp_path, "masks/bolt/bad | 2 | mask", "masks/nut/bad | 3 | mask")
    splits = load_splits("folder", tmp_path)
    assert [counts(split) for split in splits.values()] == ["6 2 bad 2 +2", "6 2 bad 3 +3"]


UNUSED = {
    "good | 8, bad | 2, . | 2": "2 images of which no folder says whether they are normal: ",
    "good | 8, bad | 2, good | 2 | file | {}.orf": "2 files of an unknown kind, .orf: ",
    "train/good | 8, test/good | 2, test/bad | 2, extra | 3": "3 images beside train and test: ",
    "train/good | 8, test/good | 2, test/bad | 2, validation/good | 3": "3 images of a validation part",
    "train/good | 8, test/good | 2, test/bad | 2, test | 1": "1 images of which no folder says",
    "bolt/good | 8, bolt/bad | 2, nut/good | 8, nut/bad | 2, . | 1": "1 images of which no folder says",
    ". | 8, . | 1 | file | labels.csv": "1 lists; if one says which images are normal",
    "good | 8, bad | 2, gt | 2 | mask, gt | 2 | mask | {}.jpg": "2 files in folders of masks that are none",
}


@pytest.mark.parametrize(("layout", "reason"), UNUSED.items())
def test_everything_that_is_not_used_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: str, reason: str
) -> None:
    root = draw(tmp_path / "parts", *layout.split(", "))
    with caplog.at_level(logging.INFO):
        load_splits("folder", root)
    assert f"not used:\n  {reason}" in caplog.text
    assert [problem for problem in check("folder", root) if reason.rstrip(": ") in problem.message]


def test_what_was_understood_is_said_before_any_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw(
        tmp_path / "bolt",
        "good | 8",
        "crack | 2",
        "dent | 1",
        "masks/crack | 2 | mask",
        "masks/dent | 1 | mask",
    )
    with caplog.at_level(logging.INFO):
        load_splits("folder", tmp_path / "bolt")
    assert (
        "bolt: trains on 6 normal; tests on 2 normal (drawn with seed 0), 3 anomalous (crack 2, dent 1) "
        "with 3 masks; read from good, crack, masks/crack, dent, masks/dent"
    ) in caplog.text


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    draw(tmp_path, ". | 3 | file | IMG_{}.ORF")
    with pytest.raises(DatasetNotFound, match=r"no images found(.|\n)*3 files of an unknown kind, \.orf"):
        load_splits("folder", tmp_path)


NAMES = [
    "good",
    "Good Parts",
    "bad",
    "Defective",
    "dent",
    "side",
    "lot2",
    "images",
    "masks",
    "train",
    "test",
    "val",
]
"""Of all kinds."""


def test_no_layout_is_a_traceback_and_no_bad_image_ever_trains(tmp_path: Path) -> None:
    layouts = [
        *itertools.combinations(NAMES, 2),
        *((f"{first}/{second}", third) for first, second, third in itertools.permutations(NAMES[1::2], 3)),
    ]
    picture = draw(tmp_path, ". | 1") / "000.png"
    for number, layout in enumerate(layouts):
        root = tmp_path / f"layout{number}"
        for folder in layout:
            (root / folder).mkdir(parents=True)
            for index in range(2):
                (root / folder / f"{index}.png").hardlink_to(picture)
        try:
            splits = load_splits("folder", root)
        except UserError:
            continue
        trained = [
            record.image.relative_to(root).parts for split in splits.values() for record in split.train
        ]
        assert not [parts for parts in trained if {"bad", "Defective", "dent", "masks"} & set(parts)], layout
