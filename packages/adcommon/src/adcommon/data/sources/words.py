"""What names of folders mean to the people who gave them: good parts, bad parts, masks, training or test.

A name is read as words, split at blanks, signs, digits and capitals, in any case. A negation turns what
follows it: "not ok" is bad, "no defects" and "defect-free" are good. What is no known word is the name of a
defect, or of a product.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

Kind = Literal["good", "bad", "damage", "masks", "train", "test", "val", "neutral", "unclear", "other"]
"""damage: the name of a defect ("scratch"); neutral: says nothing of its images ("lot 2", "images"); unclear:
good and bad at once; other: the name of a defect that is not known here, or of a product."""

GOOD = frozenset(
    "good goods ok oks okay normal normals nominal pass passed passes io intact conforming accept "
    "accepted healthy flawless perfect golden gut gute guten gutteile gesund bon bons bonnes bueno buenos "
    "buenas 良品 合格 合格品 正常".split()
)
BAD = frozenset(
    "bad bads ng ngs nok noks nio ko kos notok nogood scrap scrapped flaw flaws flawed sick ill diseased "
    "infected ausschuss schlecht schlechte schlechtteile krank mauvais rebut malo malos malas "
    "不良 不良品 不合格 不合格品 异常 異常 缺陷 次品".split()
)
_BAD_BEGINNINGS = (
    *("defect", "defekt", "anomal", "abnormal", "anormal", "reject", "fault", "fail", "fehler", "nonconform"),
)
_DAMAGE = (
    *("scratch", "crack", "dent", "broke", "damag", "stain", "contamin", "rust", "corro", "chipped"),
    *("scrape", "burr", "bent", "torn", "leak", "discolo", "deform", "warped", "missing", "kratzer", "riss"),
)
"""Beginnings of words for damage."""
_NEGATIONS = frozenset({"not", "no", "non", "nicht", "kein", "keine", "without", "ohne", "un", "never"})
_FREE = ("free", "frei", "less", "los")
"""They turn what stands before them, as words and as ends of words."""

_IMAGES = frozenset(
    {
        *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "pics", "rgb"),
        *("bild", "bilder", "foto", "fotos", "data", "dataset", "raw", "png", "jpg", "jpeg", "bmp", "tif"),
        *("tiff", "webp", "files", "frames"),
    }
)
_FILLING = frozenset(
    "part parts teil teile sample samples item items piece pieces unit units product products class "
    "classes category type set lot batch charge los session day tag week date cam camera line shift run "
    "series seq sub more all only the of and new old my our dir folder group unlabeled unlabelled "
    "unsorted unknown uncertain maybe borderline to review todo backup archive temp tmp trash".split()
)
"""Besides what says which of several it is: that nobody has judged yet."""
_MASKS = frozenset({"mask", "masks", "gt", "gts", "groundtruth", "segmentation", "segmentations", "truth"})
_LABELS = frozenset({"label", "labels", "annotation", "annotations"})
"""Masks, too, where nothing else is said: a "bad label" may be one on a bottle."""
_OF_MASKS = frozenset({"ground", "pixel", "pixels", "binary", "seg", "anomaly"})

_SPLITS: dict[str, Kind] = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "dev"), "val"),
}
OPPOSITES = ({"positive", "negative"}, {"pos", "neg"}, {"yes", "no"}, {"true", "false"}, {"0", "1"})
"""Names that say that there are two kinds of images, and not which is good."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]|[^\W\d_]+")


class Said(NamedTuple):
    """What a name says."""

    kind: Kind
    sure: bool = True
    """False if other words stand beside: "IO board" may be good parts, or a product."""
    split: Kind = "other"
    """train, test, val; also beside another meaning: "test_bad"."""


@lru_cache(maxsize=4096)
def said_by(name: str) -> Said:
    """What the name of a folder says of the images in it.

    >>> [said_by(name).kind for name in ("Good Parts", "n.i.O.", "defect-free", "ground_truth", "side view")]
    ['good', 'bad', 'good', 'masks', 'other']
    """
    words = _words(name)
    said = [word for word in words if word not in _IMAGES and word not in _FILLING]
    if len(said) == 1 and said[0] in _SPLITS:
        return Said(_SPLITS[said[0]], split=_SPLITS[said[0]])
    if splits := [word for word in said if word in _SPLITS]:
        rest = _judge([word for word in said if word not in _SPLITS])
        if rest.sure and rest.kind in ("good", "bad", "masks"):
            return rest._replace(split=_SPLITS[splits[0]])
    return _judge(said)


def plain(name: str) -> str:
    """A name without regard to case and signs: "Crack-Deep" and "crack_deep" are one."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


def beside_masks(name: str) -> str:
    """What the name of a folder of masks says besides: "crack" of "Crack_mask"; plain."""
    words = plain(name).split()
    return " ".join(word for word in words if word not in _MASKS | _LABELS | _OF_MASKS | _IMAGES | _FILLING)


def is_about_images(name: str) -> bool:
    """True for a folder that only says that there are images in it: "images", "rgb"."""
    words = _words(name)
    return bool(words) and all(word in _IMAGES for word in words)


def _judge(said: Sequence[str]) -> Said:
    """What the words say that are not filling."""
    if _are_masks(said):
        return Said("masks")
    whole = "".join(said)
    if whole in GOOD or whole in BAD:
        return Said("good" if whole in GOOD else "bad")
    kinds, others = _judged(said)
    if "damage" in kinds:
        return Said("unclear" if "good" in kinds else "damage")
    if kinds:
        return Said(min(kinds), not others) if len(kinds) == 1 else Said("unclear")
    return Said("other" if said else "neutral")


def _words(name: str) -> list[str]:
    """The words of a name in lower case; letters that stand alone are one word: "i.O." is "io"."""
    words: list[str] = []
    alone = False
    for word in _WORD.findall(name):
        if len(word) == 1 and alone:
            words[-1] += word.casefold()
        else:
            words.append(word.casefold())
        alone = len(word) == 1
    return words


def _are_masks(said: Sequence[str]) -> bool:
    words = set(said)
    if words & _LABELS:
        return words <= _LABELS | _MASKS | _OF_MASKS
    return bool(words & _MASKS) and all(
        word in _MASKS | _OF_MASKS or _is_bad(word) or word.startswith(_DAMAGE) for word in words
    )


def _judged(said: Sequence[str]) -> tuple[set[Kind], bool]:
    """What the words say, each with the negation before it, and if there are words that say nothing."""
    kinds: list[Kind] = []
    others = negated = False
    for word in said:
        if word in _NEGATIONS:
            negated = not negated
        elif word in _FREE and kinds:
            kinds[-1] = "good"
        elif (good := _is_good(word)) or _is_bad(word):
            kinds.append("good" if good != negated else "bad")
            negated = False
        elif word.startswith(_DAMAGE):
            kinds.append("good" if negated else "damage")
            negated = False
        else:
            others = True
    return set(kinds), others


def _is_good(word: str) -> bool:
    undone = word.startswith("un") and word[2:].startswith((*_BAD_BEGINNINGS, *_DAMAGE))
    return word in GOOD or undone or (word.endswith(_FREE) and _is_bad(word))


def _is_bad(word: str) -> bool:
    return word in BAD or word.startswith(_BAD_BEGINNINGS) or word.removeprefix("un") in GOOD - {word}
