"""Digits, photographs, textures, drawings, and the user's own images."""

from adcommon.data.catalog.counts import CIFAR10_GROUPS, MNIST_GROUPS
from adcommon.data.catalog.facts import Dataset

GENERAL = (
    Dataset(
        name="mnist",
        title="MNIST",
        extra_categories=tuple(MNIST_GROUPS),
        folders=("MNIST_anomaly_detection",),
        raw_marks=("training/0", "mnist_png/training/0", "train-images*ubyte*"),
        download="the four files *-ubyte.gz, or their copy as PNG images (mnist_png)",
        pixel_truth=False,
        url="http://yann.lecun.com/exdb/mnist/",
        licence="CC BY-SA 3.0",
        citation="LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86, 1998",
        uses={"InCTRL": "few-shot test after training on MVTec AD: one digit against all, even against odd"},
    ),
    Dataset(
        name="cifar10",
        title="CIFAR-10",
        extra_categories=tuple(CIFAR10_GROUPS),
        layout="cifar10",
        folders=(
            *("CIFAR-10/cifar-10-batches-py", "cifar-10-batches-py", "CIFAR-10", "cifar10"),
            "CIFAR10_anomaly_detection",
        ),
        raw_marks=("train/airplane", "cifar10/train/airplane"),
        download="cifar-10-python.tar.gz; unpack it into a folder CIFAR-10",
        pixel_truth=False,
        url="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; free for research with citation",
        citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        uses={
            "InCTRL": "few-shot test after training on MVTec AD: one class against all, animals against rest",
            "UniAD": "one model for five normal classes, four divisions of the ten",
        },
    ),
    Dataset(
        name="dtd",
        title="DTD",
        layout="textures",
        folders=("dtd", "DTD/dtd", "DTD"),
        download="dtd-r1.0.1.tar.gz; unpacked, it is the folder dtd",
        pixel_truth=False,
        url="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        licence="research use",
        citation="Cimpoi et al., Describing Textures in the Wild, CVPR 2014",
        uses={
            "RealNet": "textures of synthetic anomalies; needed only where `anomaly_types` has a share of dtd"
        },
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
