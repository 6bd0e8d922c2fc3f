"""How many images each category of a dataset has, as published; what differs is a warning, never an error."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from adcommon.types.records import Split


@dataclass(frozen=True, slots=True)
class Counts:
    """Published numbers of images of one category."""

    train: int
    normal: int
    """Normal test images."""
    defects: Mapping[str, int]
    """Anomalous test images by defect; one entry: their sum, whatever the defects; none: not published."""

    def differences(self, split: Split) -> list[str]:
        """What differs in `split`, one sentence per folder: "train: expected 209 images, found 208"."""
        found = Counter(record.defect for record in split.test)
        rows = [("train", self.train, len(split.train)), ("test/good", self.normal, found.pop("good", 0))]
        if len(self.defects) == 1:  # preparers name the one folder of anomalies differently
            rows.append(("test/anomalous", sum(self.defects.values()), found.total()))
        elif self.defects:
            names = sorted({*self.defects, *found})
            rows += [(f"test/{name}", self.defects.get(name, 0), found[name]) for name in names]
        return [
            f"{folder}: expected {expected} images, found {actual}"
            for folder, expected, actual in rows
            if expected != actual
        ]


_TABLES = {
    "mvtec": """
        bottle 209 20 broken_large 20 broken_small 22 contamination 21
        cable 224 58 bent_wire 13 cable_swap 12 combined 11 cut_inner_insulation 14 \
            cut_outer_insulation 10 missing_cable 12 missing_wire 10 poke_insulation 10
        capsule 219 23 crack 23 faulty_imprint 22 poke 21 scratch 23 squeeze 20
        carpet 280 28 color 19 cut 17 hole 17 metal_contamination 17 thread 19
        grid 264 21 bent 12 broken 12 glue 11 metal_contamination 11 thread 11
        hazelnut 391 40 crack 18 cut 17 hole 18 print 17
        leather 245 32 color 19 cut 19 fold 17 glue 19 poke 18
        metal_nut 220 22 bent 25 color 22 flip 23 scratch 23
        pill 267 26 color 25 combined 17 contamination 21 crack 26 faulty_imprint 19 pill_type 9 scratch 24
        screw 320 41 manipulated_front 24 scratch_head 24 scratch_neck 25 thread_side 23 thread_top 23
        tile 230 33 crack 17 glue_strip 18 gray_stroke 16 oil 18 rough 15
        toothbrush 60 12 defective 30
        transistor 213 60 bent_lead 10 cut_lead 10 damaged_case 10 misplaced 10
        wood 247 19 color 8 combined 11 hole 10 liquid 10 scratch 21
        zipper 240 32 broken_teeth 19 combined 16 fabric_border 17 fabric_interior 16 rough 17 \
            split_teeth 18 squeezed_teeth 16""",
    "visa": """
        candle 900 100 bad 100
        capsules 542 60 bad 100
        cashew 450 50 bad 100
        chewinggum 453 50 bad 100
        fryum 450 50 bad 100
        macaroni1 900 100 bad 100
        macaroni2 900 100 bad 100
        pcb1 904 100 bad 100
        pcb2 901 100 bad 100
        pcb3 905 101 bad 100
        pcb4 904 101 bad 100
        pipe_fryum 450 50 bad 100""",
    "mpdd": """
        bracket_black 289 32 hole 12 scratches 35
        bracket_brown 185 26 bend_and_parts_mismatch 17 parts_mismatch 34
        bracket_white 110 30 defective_painting 13 scratches 17
        connector 128 30 parts_mismatch 14
        metal_plate 54 26 major_rust 14 scratches 34 total_rust 23
        tubes 122 32 anomalous 69""",
    "btad": """
        01 400 21 ko 49
        02 399 30 ko 200
        03 1000 400 ko 41""",
    "mvtec_3d": """
        bagel 244 22 any 88
        cable_gland 223 21 any 87
        carrot 286 27 any 132
        cookie 210 28 any 103
        dowel 288 26 any 104
        foam 236 20 any 80
        peach 361 26 any 106
        potato 300 22 any 92
        rope 298 32 any 69
        tire 210 25 any 87""",
    "mvtec_loco": """
        breakfast_box 351 102 logical_anomalies 83 structural_anomalies 90
        juice_bottle 335 94 logical_anomalies 142 structural_anomalies 94
        pushpins 372 138 logical_anomalies 91 structural_anomalies 81
        screw_bag 360 122 logical_anomalies 137 structural_anomalies 82
        splicing_connectors 360 119 logical_anomalies 108 structural_anomalies 85""",
    "ksdd": "SDD 857 286 defect 54",
    "ksdd2": "KSDD2 2085 894 defect 110",
    "vad": "vad 2000 1000 any 1000",
    "aitex": "AITEX 1692 564",
    "elpv": """
        mono 454 134 mono 313
        poly 677 243 poly 402
        elpv 1131 377 mono 313 poly 402""",
    "textile": "textile 750 250 global 500 local 500",
    "oct2017": "OCT2017 26315 250 CNV 250 DME 250 DRUSEN 250",
    "aptos": "APTOS 1000 805 ABNORMAL 1857",
    "isic2018": "ISIC2018 6705 123 ABNORMAL 70",
    "brain_mri": "brainmri 73 25 defect 155",
    "head_ct": "headct 75 25 defect 100",
    "brats": "brain 154 154 lesion 1097",
}
"""Lines of a category, its training images, its normal test images, then each defect with its images.

VisA's are those of the split 1cls. KolektorSDD2's and VAD's are without the 246 and 1,000 anomalous
training images. MVTec 3D-AD's are without the 294 validation images, MVTec LOCO AD's
without the 305; its archive has six training images of splicing_connectors more than its paper counts.
"""

MNIST_CLASSES = tuple("0123456789")
MNIST_GROUPS = {"even": MNIST_CLASSES[::2], "odd": MNIST_CLASSES[1::2]}
"""Classes that are normal together, by category; the even digits are InCTRL's multi-class protocol."""

CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
CIFAR10_GROUPS = {
    "animal": ("bird", "cat", "deer", "dog", "frog", "horse"),
    "object": ("airplane", "automobile", "ship", "truck"),
    "01234": CIFAR10_CLASSES[:5],
    "56789": CIFAR10_CLASSES[5:],
    "02468": CIFAR10_CLASSES[::2],
    "13579": CIFAR10_CLASSES[1::2],
}
"""Classes that are normal together, by category: animals as in InCTRL, five against five as in UniAD."""


def _read(table: str) -> dict[str, Counts]:
    """The counts in a table of `_TABLES`."""
    return {
        category: Counts(
            int(train), int(normal), dict(zip(defects[::2], map(int, defects[1::2]), strict=True))
        )
        for category, train, normal, *defects in map(str.split, table.strip().splitlines())
    }


def _one_vs_rest(
    train: Mapping[str, int], test: Mapping[str, int], groups: Mapping[str, tuple[str, ...]]
) -> dict[str, Counts]:
    """Counts of categories whose normal images are those of one class, or of a named group of classes."""
    return {
        category: Counts(
            sum(train[name] for name in normal),
            sum(test[name] for name in normal),
            {name: count for name, count in test.items() if name not in normal},
        )
        for category, normal in ({name: (name,) for name in train} | dict(groups)).items()
    }


_MNIST_TRAIN = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
_MNIST_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)

COUNTS: Mapping[str, Mapping[str, Counts]] = {dataset: _read(table) for dataset, table in _TABLES.items()} | {
    "mnist": _one_vs_rest(
        dict(zip(MNIST_CLASSES, _MNIST_TRAIN, strict=True)),
        dict(zip(MNIST_CLASSES, _MNIST_TEST, strict=True)),
        MNIST_GROUPS,
    ),
    "cifar10": _one_vs_rest(
        dict.fromkeys(CIFAR10_CLASSES, 5000), dict.fromkeys(CIFAR10_CLASSES, 1000), CIFAR10_GROUPS
    ),
}
"""Published counts by dataset and category, in the owners' order."""
