"""DATASETS: one table of facts per dataset; a further dataset is a further entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from adcommon.datasets.counts import CIFAR10_CLASSES, CIFAR10_GROUPS, MVTEC_COUNTS, VISA_COUNTS, Counts

Layout = Literal["category_folders", "medical", "cifar10", "elpv", "textile", "synthetic", "folder"]
"""How a dataset lies on disk:

category_folders: `<category>/train/good`, `<category>/test/<defect>`, `<category>/ground_truth/<defect>`
medical:          `train/NORMAL`, `test/NORMAL`, `test/<anomaly>`: one category, no masks
cifar10:          the batches `data_batch_1` ... of the Python version
elpv, textile:    inside a Python package that is installed with this one
synthetic:        drawn into the cache folder, then as category_folders
folder:           the user's own images, see `adcommon.datasets.folder`
"""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Facts about one dataset."""

    name: str
    """What the command line calls it."""
    title: str
    categories: tuple[str, ...] = ()
    """In the owners' order; empty where they are found on disk."""
    extra_categories: tuple[str, ...] = ()
    """Further categories that can be asked for and are not run by default."""
    layout: Layout
    folders: tuple[str, ...] = ()
    """Where the dataset is looked for below the data root; the first is the usual name."""
    raw_marks: tuple[str, ...] = ()
    """Glob patterns of which one is found in the unprepared download."""
    preparer: str | None = None
    """Name after `ad prepare` where the download needs preparation."""
    download: str = ""
    """What to fetch from `url`, and what to do with it."""
    pixel_truth: bool
    """True if anomalous images have masks."""
    url: str
    """The owners' page."""
    licence: str
    citation: str
    papers: tuple[str, ...] = ()
    """Which of the five papers report results on it."""
    counts: Mapping[str, Counts] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Usual folder name below the data root; empty for datasets that need no files of the user."""
        return self.folders[0] if self.folders else ""

    @property
    def embedded(self) -> bool:
        """True if the dataset is there without any download."""
        return self.layout in ("elpv", "textile", "synthetic")


_ENTRIES = (
    Dataset(
        name="mvtec",
        title="MVTec AD",
        categories=tuple(MVTEC_COUNTS),
        layout="category_folders",
        folders=("mvtec_anomaly_detection", "mvtec", "mvtec_ad"),
        download="mvtec_anomaly_detection.tar.xz (5 GB); unpack it into a folder mvtec_anomaly_detection",
        pixel_truth=True,
        url="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        licence="CC BY-NC-SA 4.0",
        citation="Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 129, 2021; CVPR 2019",
        papers=("ReContrast", "InCTRL", "RealNet", "UniAD", "ResAD"),
        counts=MVTEC_COUNTS,
    ),
    Dataset(
        name="visa",
        title="VisA",
        categories=tuple(VISA_COUNTS),
        layout="category_folders",
        folders=("VisA_pytorch/1cls", "1cls", "VisA/visa", "visa"),
        raw_marks=("*/Data/Images/Normal",),
        preparer="visa",
        download="VisA_20220922.tar (1.9 GB); it has no folder of its own: unpack it inside a folder VisA",
        pixel_truth=True,
        url="https://github.com/amazon-science/spot-diff",
        licence="CC BY 4.0 by its owners' page, CC BY-NC-SA 4.0 by others: do not pass it on",
        citation="Zou et al., SPot-the-Difference Self-Supervised Pre-training, ECCV 2022 (arXiv 2207.14315)",
        papers=("ReContrast", "InCTRL", "RealNet", "ResAD"),
        counts=VISA_COUNTS,
    ),
    Dataset(
        name="oct2017",
        title="OCT2017",
        categories=("OCT2017",),
        layout="medical",
        folders=("OCT2017", "CellData/OCT"),
        download="ZhangLabData.zip, version 3; move the content of CellData/OCT into a folder OCT2017",
        pixel_truth=False,
        url="https://data.mendeley.com/datasets/rscbjbr9sj/3",
        licence="CC BY 4.0",
        citation="Kermany et al., Identifying Medical Diagnoses by Image-Based Deep Learning, Cell 172, 2018",
        papers=("ReContrast",),
        counts={"OCT2017": Counts(26315, 250, {"CNV": 250, "DME": 250, "DRUSEN": 250})},
    ),
    Dataset(
        name="aptos",
        title="APTOS 2019",
        categories=("APTOS",),
        layout="medical",
        folders=("APTOS",),
        raw_marks=("train_images",),
        preparer="aptos",
        download="the competition's archive, with train.csv and train_images",
        pixel_truth=False,
        url="https://www.kaggle.com/competitions/aptos2019-blindness-detection/data",
        licence="rules of the Kaggle competition: do not pass it on",
        citation="Asia Pacific Tele-Ophthalmology Society, APTOS 2019 Blindness Detection, Kaggle 2019",
        papers=("ReContrast",),
        counts={"APTOS": Counts(1000, 805, {"ABNORMAL": 1857})},
    ),
    Dataset(
        name="isic2018",
        title="ISIC 2018 task 3",
        categories=("ISIC2018",),
        layout="medical",
        folders=("ISIC2018",),
        raw_marks=("ISIC2018_Task3_Training_Input",),
        preparer="isic2018",
        download="ISIC2018_Task3_{Training,Validation}_{Input,GroundTruth}.zip; unpack them in one folder",
        pixel_truth=False,
        url="https://challenge.isic-archive.com/data/#2018",
        licence="CC BY-NC 4.0",
        citation="Codella et al., Skin Lesion Analysis Toward Melanoma Detection 2018 (arXiv 1902.03368)",
        papers=("ReContrast",),
        counts={"ISIC2018": Counts(6705, 123, {"ABNORMAL": 70})},
    ),
    Dataset(
        name="cifar10",
        title="CIFAR-10",
        categories=CIFAR10_CLASSES,
        extra_categories=tuple(CIFAR10_GROUPS),
        layout="cifar10",
        folders=("CIFAR-10/cifar-10-batches-py", "cifar-10-batches-py", "CIFAR-10", "cifar10"),
        download="cifar-10-python.tar.gz; unpack it into a folder CIFAR-10",
        pixel_truth=False,
        url="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; free for research with citation",
        citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        papers=("InCTRL", "UniAD"),
    ),
    Dataset(
        name="elpv",
        title="ELPV",
        categories=("mono", "poly"),
        extra_categories=("elpv",),
        layout="elpv",
        preparer="elpv",
        pixel_truth=False,
        url="https://github.com/zae-bayern/elpv-dataset",
        licence="CC BY-NC-SA 4.0",
        citation="Buerhop-Lutz et al., A Benchmark for Visual Identification of Defective Solar Cells, 2018",
        papers=("InCTRL",),
        counts={
            "mono": Counts(454, 134, {"mono": 313}),
            "poly": Counts(677, 243, {"poly": 402}),
            "elpv": Counts(1131, 377, {"mono": 313, "poly": 402}),
        },
    ),
    Dataset(
        name="textile",
        title="Simulated textile",
        categories=("textile",),
        layout="textile",
        pixel_truth=False,
        url="https://pypi.org/project/conformal-clip-data",
        licence="MIT",
        citation="conformal-clip-data 0.1.4, PyPI",
        counts={"textile": Counts(750, 250, {"global": 500, "local": 500})},
    ),
    Dataset(
        name="synthetic",
        title="Synthetic products",
        categories=("brick", "grass", "gravel", "plate"),
        layout="synthetic",
        pixel_truth=True,
        url="https://scikit-image.org",
        licence="textures: CC0, shipped with scikit-image; the rest is drawn here",
        citation="drawn by this package on textures of scikit-image",
    ),
    Dataset(
        name="folder",
        title="Own images",
        layout="folder",
        pixel_truth=False,
        url="docs/datasets.md",
        licence="yours",
        citation="none",
    ),
)

DATASETS: dict[str, Dataset] = {entry.name: entry for entry in _ENTRIES}
"""Every dataset by name."""
