import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcommon.data.sources.words import BAD, GOOD, Kind, is_about_images, said_by

MEANT: dict[Kind, str] = {
    "good": "good goods OK okay NORMAL pass PASSED io iO i.O. good_images GoodParts OKTeile good2 良品 "
    "intact defect-free no_defects non-defective faultless scratch_free not_scratched fehlerfrei Gut "
    "Healthy accepted undamaged",
    "bad": "bad NG nok NIO n.i.O. NiO KO not_ok notOK nicht_i.O. no_good un-ok unnormal Defective defects "
    "anomaly Abnormal rejected faulty FAIL failures nonconforming NG_parts Ausschuss sick unhealthy 不良品",
    "damage": "scratch Cracked dent broken_large missing_screw bent_wire rust stains bad_scratch",
    "masks": "mask MASKS ground_truth GroundTruth gt labels annotations segmentation defect_masks "
    "mask_images",
    "train": "train Training train_images",
    "test": "test TEST testset",
    "val": "val valid validation",
    "neutral": "images lot2 2024-05-01 batch_3 more photos 0 part unlabeled to_review backup",
    "unclear": "good_bad pass_fail good_scratch",
    "other": "bolt side_view label_left bypass default union thread_side x 螺丝 ground",
}
WITH_BLANKS: dict[str, Kind] = {
    "Good Parts": "good",
    "OK Teile": "good",
    "not ok": "bad",
    "No Good": "bad",
    "n. i. O.": "bad",
    "i. O. Teile": "good",
    "Ground Truth": "masks",
    "good and bad": "unclear",
    "not abnormal": "good",
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, kind) for kind, names in MEANT.items() for name in names.split()), *WITH_BLANKS.items()],
)
def test_a_name_means_what_people_mean_by_it(name: str, kind: Kind) -> None:
    assert said_by(name).kind == kind


@pytest.mark.parametrize(
    ("name", "kind", "split"),
    [
        ("train_good", "good", "train"),
        ("TestBad", "bad", "test"),
        ("NOK test", "bad", "test"),
        ("test_masks", "masks", "test"),
        ("test_piece", "test", "test"),
        ("test_screw", "other", "other"),
    ],
)
def test_a_name_may_say_the_part_too(name: str, kind: Kind, split: Kind) -> None:
    assert said_by(name)[::2] == (kind, split)


@pytest.mark.parametrize("name", ["IO_board", "good_dark", "bad_label"])
def test_a_word_among_others_is_not_sure(name: str) -> None:
    assert said_by(name).kind in ("good", "bad")
    assert not said_by(name).sure


@given(
    word=st.sampled_from(sorted((GOOD | BAD) - {"io", "kos"})),
    form=st.sampled_from([str.upper, str.title, str.lower]),
    pattern=st.sampled_from(["{}", "{}_1", "{} images", "01-{}", "({})", "{}.parts"]),
)
def test_case_digits_and_signs_change_nothing(word: str, form: object, pattern: str) -> None:
    assert callable(form)
    assert said_by(pattern.format(form(word))).kind == ("good" if word in GOOD else "bad")


@given(st.text(max_size=40))
def test_every_name_has_a_meaning(name: str) -> None:
    assert said_by(name) == said_by(name)
    assert not is_about_images(name) or said_by(name).kind == "neutral"
