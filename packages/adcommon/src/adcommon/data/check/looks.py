"""What single images and masks show, and what is suspicious about all of a category together."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from adcommon.data.cautions import is_dark
from adcommon.data.check.tree import Problem, Severity
from adcommon.data.leaks import Fingerprint, fingerprint
from adcommon.io.headers import Header, read_header
from adcommon.io.images import image_size
from adcommon.types.records import Record


@dataclass(frozen=True, slots=True)
class MaskLook:
    """What a mask shows."""

    size: tuple[int, int]
    """(width, height) of its file."""
    share: float
    """Of the pixels, those that are anomalous."""
    on_border: bool
    """Every pixel at the border is anomalous."""
    digest: bytes
    pages: int = 1
    """Of its file; of a mask in parts, none are counted."""

    @classmethod
    def of(cls, size: tuple[int, int], mask: Bool[np.ndarray, "height width"], pages: int = 1) -> "MaskLook":
        """Look at a mask, at any size."""
        border = mask[0].all() and mask[-1].all() and mask[:, 0].all() and mask[:, -1].all()
        digest = blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()
        return cls(size, float(mask.mean()), bool(border), digest, pages)

    @property
    def seems_inverted(self) -> bool:
        """It marks more than half of the image and its whole border, but not everything."""
        return self.on_border and 0.5 < self.share < 1


@dataclass(frozen=True, slots=True)
class Look:
    """What an image and its mask show."""

    record: Record
    header: Header
    print: Fingerprint
    is_dark: bool
    """See `is_dark`."""
    is_transparent: bool
    """Some pixels are; their colours may be anything."""
    mask: MaskLook | None


def look_at(
    record: Record,
    pixels: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "mask_height mask_width"] | None,
    is_transparent: Callable[[], bool],
) -> Look:
    """Look at an image that was decoded already.

    Args:
        mask: None if there is none.
        is_transparent: asked only of an image with alpha.
    """
    header = read_header(record.image)
    return Look(
        record,
        header,
        fingerprint(record.image, pixels),
        is_dark(header, pixels),
        header.has_alpha and is_transparent(),
        None if mask is None or record.mask is None else _look_at_mask(record.mask, mask),
    )


def _look_at_mask(path: Path, mask: Bool[np.ndarray, "height width"]) -> MaskLook:
    if path.is_dir():
        return MaskLook.of(image_size(path), mask)
    header = read_header(path)
    return MaskLook.of(header.size, mask, header.pages)


def suspicions(looks: Sequence[Look], category: str) -> Iterator[Problem]:
    """What is wrong, or may be, with the images and masks of a category."""
    yield from _check_pixels(looks, category)
    yield from _check_orientation(looks, category)
    yield from _check_masks([look for look in looks if look.mask and look.record.label == 1], category)
    yield from _check_kinds(looks, category)


def _check_pixels(looks: Sequence[Look], category: str) -> Iterator[Problem]:
    dark = [look for look in looks if look.is_dark]
    if dark:
        yield _problem(
            "warning",
            category,
            "images of 16 bits use less than an eighth of their range and are read as almost black: say what "
            "is white (--white 4095 for a camera of 12 bits), or multiply their values",
            dark,
        )
    transparent = [look for look in looks if look.is_transparent]
    if transparent:
        message = "images have transparent pixels, whose hidden colours are read: save them without alpha"
        yield _problem("warning", category, message, transparent)
    pages = [(look, look.record.image, look.header.pages) for look in looks]
    pages += [(look, look.record.mask, look.mask.pages) for look in looks if look.mask and look.record.mask]
    many = [(look, f"{path}: {count} pages") for look, path, count in pages if count > 1]
    if many:
        message = "files have several pages or frames, of which only the first is read"
        yield _problem("warning", category, message, [look for look, _ in many], [said for _, said in many])


def _check_orientation(looks: Sequence[Look], category: str) -> Iterator[Problem]:
    """Masks of photographs that EXIF turns: each is turned with its photograph."""
    turned = [look for look in looks if look.header.orientation != 1 and look.mask is not None]
    stored = [look for look in turned if _drawn_upright(look) is False]
    unknown = [look for look in turned if _drawn_upright(look) is None]
    if stored and len(stored) + len(unknown) < len(turned):
        message = (
            "masks are drawn on stored photographs, the others on upright ones: each is turned by its size"
        )
        yield _problem("warning", category, message, stored)
    elif stored:
        message = "masks are drawn on stored photographs, which EXIF turns: they are turned along"
        yield _problem("warning", category, message, stored)
    if unknown:
        message = (
            "masks fit their photographs as stored and as EXIF turns them: they are taken to lie as the image"
        )
        yield _problem("warning", category, message, unknown)


def _drawn_upright(look: Look) -> bool | None:
    assert look.mask is not None
    if look.header.size != look.header.upright_size:
        return look.mask.size == look.header.upright_size
    return look.record.mask_upright


def _check_masks(looks: Sequence[Look], category: str) -> Iterator[Problem]:
    """Masks that are hardly meant: inverted, all empty, all the same."""
    masks = [(look, look.mask) for look in looks if look.mask is not None]
    if not masks:
        return
    if all(mask.share == 0 for _, mask in masks):
        message = "anomalous images have an empty mask, all that there are: give the true masks, or none"
        yield _problem("error", category, message, looks)
        return
    if all(mask.seems_inverted for _, mask in masks):
        message = (
            "masks, all that there are, mark the whole border and more than half of their images: they are "
            "inverted. Above 0 is anomalous; invert them, or go on without masks"
        )
        yield _problem("error", category, message, looks)
        return
    large = [look for look, mask in masks if mask.share > 0.5 or mask.on_border]
    if large:
        message = "masks mark more than half of their image or its whole border: are they inverted?"
        yield _problem("warning", category, message, large)
    if len(masks) > 2 and len({mask.digest for _, mask in masks}) == 1:
        yield _problem("warning", category, "masks are all the same", looks)


def _check_kinds(looks: Sequence[Look], category: str) -> Iterator[Problem]:
    """Normal and anomalous images that their files alone tell apart."""
    for what in ("format", "size"):
        kinds = [[_kind(look, what) for look in looks if look.record.label == label] for label in (0, 1)]
        if all(len(kind) > 1 == len(set(kind)) for kind in kinds) and kinds[0][0] != kinds[1][0]:
            normal, anomalous = kinds[0][0], kinds[1][0]
            message = (
                f"every normal image is {normal}, every anomalous one {anomalous}: the {what} alone tells "
                "them apart, and a model may learn just that"
            )
            yield Problem("warning", category, message)


def _kind(look: Look, what: str) -> str:
    return look.header.kind if what == "format" else "x".join(map(str, look.header.upright_size))


def _problem(
    severity: Severity, category: str, message: str, looks: Sequence[Look], details: Sequence[str] = ()
) -> Problem:
    paths: tuple[Path, ...] = tuple(look.record.image for look in looks)
    return Problem(severity, category, f"{len(looks)} {message}", paths, tuple(details))
