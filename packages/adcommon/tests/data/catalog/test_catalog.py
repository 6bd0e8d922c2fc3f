import subprocess
import sys
from pathlib import Path

import pytest

from adcommon.data import DATASETS, find_categories
from adcommon.data.catalog.counts import Counts
from adcommon.errors import UnknownName
from adcommon.types.records import Record, Split


def totals(dataset: str) -> tuple[int, int, int]:
    """Training, normal test and anomalous test images of all default categories."""
    entry = DATASETS[dataset]
    counts = [entry.counts[category] for category in entry.categories]
    return (
        sum(count.train for count in counts),
        sum(count.normal for count in counts),
        sum(sum(count.defects.values()) for count in counts),
    )


def test_published_totals() -> None:
    mvtec = DATASETS["mvtec"].counts.values()
    assert sum(counts.train for counts in mvtec) == 3629
    assert sum(counts.normal for counts in mvtec) == 467
    assert sum(sum(counts.defects.values()) for counts in mvtec) == 1258
    visa = DATASETS["visa"].counts.values()
    assert sum(counts.train for counts in visa) == 8659
    assert sum(counts.normal + sum(counts.defects.values()) for counts in visa) == 2162
    assert totals("mpdd") == (888, 176, 282)
    assert totals("btad") == (1799, 451, 290)
    assert totals("mvtec_3d") == (2656, 249, 948)
    assert totals("mvtec_loco") == (1778, 575, 993)
    assert DATASETS["mnist"].counts["7"].train == 6265
    for category in DATASETS["mnist"].categories:
        counts = DATASETS["mnist"].counts[category]
        assert counts.normal + sum(counts.defects.values()) == 10000
    assert totals("mnist") == (60000, 10000, 90000)
    assert totals("cifar10") == (50000, 10000, 90000)
    uniad = DATASETS["cifar10"].counts["01234"]
    assert (uniad.train, uniad.normal, sum(uniad.defects.values())) == (25000, 5000, 5000)
    aptos = DATASETS["aptos"].counts["APTOS"]
    assert aptos.normal + sum(aptos.defects.values()) == 2662


def test_entries_are_complete_and_consistent() -> None:
    for name, entry in DATASETS.items():
        assert name == entry.name
        assert entry.title
        assert entry.url
        assert entry.licence
        assert entry.citation
        assert set(entry.counts) <= {*entry.categories, *entry.extra_categories}
        assert entry.embedded or entry.layout == "folder" or (entry.folder and entry.download)
        assert not entry.raw_marks or entry.preparer


def test_every_dataset_of_the_papers_is_there_with_its_use() -> None:
    names = (
        "mvtec visa oct2017 aptos isic2018 elpv ksdd aitex brain_mri head_ct mnist cifar10 mpdd btad dtd "
        "mvtec_3d mvtec_loco brats"
    )
    assert {name for name, entry in DATASETS.items() if entry.uses} == set(names.split())
    assert {paper for entry in DATASETS.values() for paper in entry.papers} == {
        *("ReContrast", "InCTRL", "RealNet", "UniAD", "ResAD")
    }


def test_categories_are_in_the_owners_order() -> None:
    assert find_categories("mvtec", None)[:3] == ("bottle", "cable", "capsule")
    assert len(find_categories("mvtec", None)) == 15
    assert len(find_categories("visa", None)) == 12
    assert find_categories("elpv", None) == ("mono", "poly")


def test_mistyped_dataset_suggests_the_right_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'mvtec'"):
        find_categories("mvtek", None)


def test_differences_name_the_folder_and_both_numbers() -> None:
    def records(count: int, label: int, defect: str) -> list[Record]:
        return [Record(Path("0.png"), "bottle", label, defect)] * count

    counts = Counts(2, 1, {"crack": 1, "hole": 1})
    split = Split(records(1, 0, "good"), [*records(1, 0, "good"), *records(2, 1, "crack")])
    assert counts.differences(split) == [
        "train: expected 2 images, found 1",
        "test/crack: expected 1 images, found 2",
        "test/hole: expected 1 images, found 0",
    ]
    one_folder = Counts(1, 1, {"bad": 2})
    assert one_folder.differences(split) == []  # whatever the preparer calls the folder of anomalous images


def test_datasets_are_listed_without_torch() -> None:
    code = (
        "import sys, adcommon.data.lists.fewshot, adcommon.data.prepare.command, "
        "adcommon.testing.downloads, adcommon.testing.trees, adcommon.data.check.dataset; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
