"""The sentences about normal and anomalous objects that CLIP's text tower reads; no torch here.

Section 3.3 of the paper, after WinCLIP (arXiv 2303.14814).
"""

from itertools import product

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS_STATES = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")

TEMPLATES = tuple(
    f"{template}."
    for template in (
        *("a cropped photo of the {}", "a cropped photo of a {}"),
        *("a close-up photo of a {}", "a close-up photo of the {}"),
        *("a bright photo of a {}", "a bright photo of the {}"),
        *("a dark photo of a {}", "a dark photo of the {}"),
        *("a jpeg corrupted photo of a {}", "a jpeg corrupted photo of the {}"),
        *("a blurry photo of the {}", "a blurry photo of a {}"),
        *("a photo of the {}", "a photo of a {}"),
        *("a photo of a small {}", "a photo of the small {}"),
        *("a photo of a large {}", "a photo of the large {}"),
        *("a photo of a {} for visual inspection", "a photo of the {} for visual inspection"),
        *("a photo of a {} for anomaly detection", "a photo of the {} for anomaly detection"),
    )
)
"""22 frames around a state; the order changes means by rounding only."""

SEMANTIC = frozenset(
    {*("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"), "animal"}
)
"""Names of which an anomaly is another kind of thing, not a damaged one; InCTRL has one sentence for each."""


def sentences(category: str, *, semantic: bool = True) -> tuple[list[str], list[str]]:
    """What is said of a normal and of an anomalous image of a category: 154 and 88 sentences.

    Args:
        category: underscores stand for spaces.
        semantic: InCTRL's exception for the names in `SEMANTIC`, one sentence each; WinCLIP has none.

    >>> sentences("metal_nut")[1][0]
    'a cropped photo of the damaged metal nut.'
    >>> sentences("cat")
    (['a photo of cat for anomaly detection.'], ['a photo without cat for anomaly detection.'])
    """
    name = category.replace("_", " ")
    if semantic and name in SEMANTIC:
        return [f"a photo of {name} for anomaly detection."], [
            f"a photo without {name} for anomaly detection."
        ]
    normal, anomalous = (
        [template.format(state.format(name)) for state, template in product(states, TEMPLATES)]
        for states in (NORMAL_STATES, ANOMALOUS_STATES)
    )
    return normal, anomalous
