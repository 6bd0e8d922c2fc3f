"""How many images each category of a dataset has, as published; what differs is a warning, never an error."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from adcommon.records import Split


@dataclass(frozen=True, slots=True)
class Counts:
    """Published numbers of images of one category."""

    train: int
    normal: int
    """Normal test images."""
    defects: Mapping[str, int]
    """Anomalous test images by defect."""

    def differences(self, split: Split) -> list[str]:
        """What differs in `split`, one sentence per folder: "train: expected 209 images, found 208"."""
        found = Counter(record.defect for record in split.test)
        rows = [("train", self.train, len(split.train)), ("test/good", self.normal, found.pop("good", 0))]
        if len(self.defects) == 1:  # preparers name the one folder of anomalies differently
            rows.append(("test/anomalous", sum(self.defects.values()), found.total()))
        else:
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

VISA_COUNTS = {
    "candle": Counts(900, 100, {"bad": 100}),
    "capsules": Counts(542, 60, {"bad": 100}),
    "cashew": Counts(450, 50, {"bad": 100}),
    "chewinggum": Counts(453, 50, {"bad": 100}),
    "fryum": Counts(450, 50, {"bad": 100}),
    "macaroni1": Counts(900, 100, {"bad": 100}),
    "macaroni2": Counts(900, 100, {"bad": 100}),
    "pcb1": Counts(904, 100, {"bad": 100}),
    "pcb2": Counts(901, 100, {"bad": 100}),
    "pcb3": Counts(905, 101, {"bad": 100}),
    "pcb4": Counts(904, 101, {"bad": 100}),
    "pipe_fryum": Counts(450, 50, {"bad": 100}),
}

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
