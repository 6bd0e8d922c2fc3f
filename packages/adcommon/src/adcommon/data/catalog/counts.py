"""How many images each category of a dataset has, as published; what differs is a warning, never an error."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from adcommon.types.records import Split


@dataclass(frozen=True, slots=True)
class Counts:
    """Published numbers of images of one category."""

    train: int
    normal: int
    """Normal test images."""
    defects: Mapping[str, int] = field(default_factory=dict)
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


MVTEC_COUNTS = {
    "bottle": Counts(209, 20, {"broken_large": 20, "broken_small": 22, "contamination": 21}),
    "cable": Counts(
        224,
        58,
        {
            "bent_wire": 13,
            "cable_swap": 12,
            "combined": 11,
            "cut_inner_insulation": 14,
            "cut_outer_insulation": 10,
            "missing_cable": 12,
            "missing_wire": 10,
            "poke_insulation": 10,
        },
    ),
    "capsule": Counts(219, 23, {"crack": 23, "faulty_imprint": 22, "poke": 21, "scratch": 23, "squeeze": 20}),
    "carpet": Counts(280, 28, {"color": 19, "cut": 17, "hole": 17, "metal_contamination": 17, "thread": 19}),
    "grid": Counts(264, 21, {"bent": 12, "broken": 12, "glue": 11, "metal_contamination": 11, "thread": 11}),
    "hazelnut": Counts(391, 40, {"crack": 18, "cut": 17, "hole": 18, "print": 17}),
    "leather": Counts(245, 32, {"color": 19, "cut": 19, "fold": 17, "glue": 19, "poke": 18}),
    "metal_nut": Counts(220, 22, {"bent": 25, "color": 22, "flip": 23, "scratch": 23}),
    "pill": Counts(
        267,
        26,
        {
            "color": 25,
            "combined": 17,
            "contamination": 21,
            "crack": 26,
            "faulty_imprint": 19,
            "pill_type": 9,
            "scratch": 24,
        },
    ),
    "screw": Counts(
        320,
        41,
        {
            "manipulated_front": 24,
            "scratch_head": 24,
            "scratch_neck": 25,
            "thread_side": 23,
            "thread_top": 23,
        },
    ),
    "tile": Counts(230, 33, {"crack": 17, "glue_strip": 18, "gray_stroke": 16, "oil": 18, "rough": 15}),
    "toothbrush": Counts(60, 12, {"defective": 30}),
    "transistor": Counts(213, 60, {"bent_lead": 10, "cut_lead": 10, "damaged_case": 10, "misplaced": 10}),
    "wood": Counts(247, 19, {"color": 8, "combined": 11, "hole": 10, "liquid": 10, "scratch": 21}),
    "zipper": Counts(
        240,
        32,
        {
            "broken_teeth": 19,
            "combined": 16,
            "fabric_border": 17,
            "fabric_interior": 16,
            "rough": 17,
            "split_teeth": 18,
            "squeezed_teeth": 16,
        },
    ),
}

VISA_SPLITS = {
    "1cls": {
        "candle": (900, 0, 100, 100),
        "capsules": (542, 0, 60, 100),
        "cashew": (450, 0, 50, 100),
        "chewinggum": (453, 0, 50, 100),
        "fryum": (450, 0, 50, 100),
        "macaroni1": (900, 0, 100, 100),
        "macaroni2": (900, 0, 100, 100),
        "pcb1": (904, 0, 100, 100),
        "pcb2": (901, 0, 100, 100),
        "pcb3": (905, 0, 101, 100),
        "pcb4": (904, 0, 101, 100),
        "pipe_fryum": (450, 0, 50, 100),
    },
    "2cls_fewshot": {
        "candle": (200, 20, 800, 80),
        "capsules": (120, 20, 482, 80),
        "cashew": (100, 20, 400, 80),
        "chewinggum": (101, 20, 402, 80),
        "fryum": (100, 20, 400, 80),
        "macaroni1": (200, 20, 800, 80),
        "macaroni2": (200, 20, 800, 80),
        "pcb1": (201, 20, 803, 80),
        "pcb2": (200, 20, 801, 80),
        "pcb3": (201, 20, 805, 80),
        "pcb4": (201, 20, 804, 80),
        "pipe_fryum": (100, 20, 400, 80),
    },
    "2cls_highshot": {
        "candle": (600, 60, 400, 40),
        "capsules": (361, 60, 241, 40),
        "cashew": (300, 60, 200, 40),
        "chewinggum": (302, 60, 201, 40),
        "fryum": (300, 60, 200, 40),
        "macaroni1": (600, 60, 400, 40),
        "macaroni2": (600, 60, 400, 40),
        "pcb1": (602, 60, 402, 40),
        "pcb2": (601, 60, 400, 40),
        "pcb3": (604, 60, 402, 40),
        "pcb4": (603, 60, 402, 40),
        "pipe_fryum": (300, 60, 200, 40),
    },
}
"""VisA's official splits: normal and anomalous training images, normal and anomalous test images."""

VISA_COUNTS = {
    name: Counts(train, normal, {"bad": bad}) for name, (train, _, normal, bad) in VISA_SPLITS["1cls"].items()
}

MPDD_COUNTS = {
    "bracket_black": Counts(289, 32, {"hole": 12, "scratches": 35}),
    "bracket_brown": Counts(185, 26, {"bend_and_parts_mismatch": 17, "parts_mismatch": 34}),
    "bracket_white": Counts(110, 30, {"defective_painting": 13, "scratches": 17}),
    "connector": Counts(128, 30, {"parts_mismatch": 14}),
    "metal_plate": Counts(54, 26, {"major_rust": 14, "scratches": 34, "total_rust": 23}),
    "tubes": Counts(122, 32, {"anomalous": 69}),
}

BTAD_COUNTS = {
    "01": Counts(400, 21, {"ko": 49}),
    "02": Counts(399, 30, {"ko": 200}),
    "03": Counts(1000, 400, {"ko": 41}),
}

MVTEC_3D_COUNTS = {
    "bagel": Counts(244, 22, {"any": 88}),
    "cable_gland": Counts(223, 21, {"any": 87}),
    "carrot": Counts(286, 27, {"any": 132}),
    "cookie": Counts(210, 28, {"any": 103}),
    "dowel": Counts(288, 26, {"any": 104}),
    "foam": Counts(236, 20, {"any": 80}),
    "peach": Counts(361, 26, {"any": 106}),
    "potato": Counts(300, 22, {"any": 92}),
    "rope": Counts(298, 32, {"any": 69}),
    "tire": Counts(210, 25, {"any": 87}),
}
"""Without the 294 validation images."""

LOCO_COUNTS = {
    "breakfast_box": Counts(351, 102, {"logical_anomalies": 83, "structural_anomalies": 90}),
    "juice_bottle": Counts(335, 94, {"logical_anomalies": 142, "structural_anomalies": 94}),
    "pushpins": Counts(372, 138, {"logical_anomalies": 91, "structural_anomalies": 81}),
    "screw_bag": Counts(360, 122, {"logical_anomalies": 137, "structural_anomalies": 82}),
    "splicing_connectors": Counts(354, 119, {"logical_anomalies": 108, "structural_anomalies": 85}),
}
"""Without the 304 validation images."""

KSDD_COUNTS = {"SDD": Counts(857, 286, {"defect": 54})}

AITEX_COUNTS = {"AITEX": Counts(1692, 564)}

ELPV_COUNTS = {
    "mono": Counts(454, 134, {"mono": 313}),
    "poly": Counts(677, 243, {"poly": 402}),
    "elpv": Counts(1131, 377, {"mono": 313, "poly": 402}),
}

TEXTILE_COUNTS = {"textile": Counts(750, 250, {"global": 500, "local": 500})}


def one_vs_rest_counts(
    train: Mapping[str, int], test: Mapping[str, int], groups: Mapping[str, tuple[str, ...]]
) -> dict[str, Counts]:
    """Counts of categories whose normal images are those of one class, or of a named group of classes."""
    normal_classes = {name: (name,) for name in train} | dict(groups)
    return {
        category: Counts(
            sum(train[name] for name in normal),
            sum(test[name] for name in normal),
            {name: count for name, count in test.items() if name not in normal},
        )
        for category, normal in normal_classes.items()
    }


MNIST_CLASSES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
MNIST_GROUPS = {"even": MNIST_CLASSES[::2], "odd": MNIST_CLASSES[1::2]}
"""Classes that are normal together, by category; the even digits are InCTRL's multi-class protocol."""

MNIST_COUNTS = one_vs_rest_counts(
    dict(zip(MNIST_CLASSES, (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949), strict=True)),
    dict(zip(MNIST_CLASSES, (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009), strict=True)),
    MNIST_GROUPS,
)

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR10_GROUPS = {
    "animal": ("bird", "cat", "deer", "dog", "frog", "horse"),
    "object": ("airplane", "automobile", "ship", "truck"),
    "01234": CIFAR10_CLASSES[:5],
    "56789": CIFAR10_CLASSES[5:],
    "02468": CIFAR10_CLASSES[::2],
    "13579": CIFAR10_CLASSES[1::2],
}
"""Classes that are normal together, by category: animals as in InCTRL, five against five as in UniAD."""

CIFAR10_COUNTS = one_vs_rest_counts(
    dict.fromkeys(CIFAR10_CLASSES, 5000), dict.fromkeys(CIFAR10_CLASSES, 1000), CIFAR10_GROUPS
)
