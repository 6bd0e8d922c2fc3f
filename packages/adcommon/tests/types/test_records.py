from adcommon.types.records import Evaluation, Record, Split

STANDARD = Evaluation(
    category="wood",
    normal=3,
    anomalous=2,
    regions=4,
    image_auroc=0.9,
    image_ap=0.8,
    image_f1max=0.7,
    image_threshold=1.5,
    pixel_auroc=0.6,
    pixel_ap=0.5,
    pixel_threshold=0.1,
    aupro=0.4,
    aupro_05=0.3,
    map_size="64x64",
    extra={"detection_rate": 1.0},
)


def test_under_a_protocol_pixel_numbers_are_the_papers_or_none() -> None:
    paper = STANDARD.under("x", pixel_auroc=0.65, extra={"pro": 1.1})
    assert (paper.protocol, paper.pixel_auroc, paper.extra) == ("x", 0.65, {"pro": 1.1})
    assert (paper.image_auroc, paper.image_ap, paper.normal, paper.anomalous) == (0.9, 0.8, 3, 2)
    left = (paper.regions, paper.pixel_ap, paper.pixel_f1max, paper.pixel_threshold, paper.aupro)
    assert {*left, paper.aupro_05} == {None}


def test_a_paper_may_label_images_otherwise() -> None:
    paper = STANDARD.under("x", image_auroc=0.0, labels=[True, True, True, True, False])
    assert (paper.image_auroc, paper.normal, paper.anomalous) == (0.0, 1, 4)


def test_splits_are_equal_whatever_dataset_they_were_found_in(tmp_path) -> None:
    record = Record(tmp_path / "a.png", "wood", 0)
    assert Split([record], []) == Split([record], [], dataset="mvtec")
    assert Split([], [record]).category == "wood"
