"""On which of two pictures the masks of photographs are drawn: the stored one, or the one that EXIF turns."""

from collections.abc import Sequence
from dataclasses import replace

from adcommon.errors import UserError
from adcommon.io.headers import read_header
from adcommon.io.images import image_size
from adcommon.types.records import Record, Split


def settle_masks(split: Split) -> Split:
    """The same images; those whose mask would fit both ways go by the masks of the set that fit one way.

    They stay undecided where no mask tells, or masks disagree.
    """
    said = {record.image: _drawn_upright(record) for record in [*split.train, *split.test]}
    votes = {answer for answer in said.values() if isinstance(answer, bool)}
    if None not in said.values() or len(votes) != 1:
        return split
    (upright,) = votes

    def settled(records: Sequence[Record]) -> list[Record]:
        return [
            replace(record, mask_upright=upright) if said[record.image] is None else record
            for record in records
        ]

    return replace(split, train=settled(split.train), test=settled(split.test))


def _drawn_upright(record: Record) -> bool | str | None:
    """What the size of a mask tells, None: it fits both ways; "": there is nothing to tell."""
    if record.mask is None:
        return ""
    try:
        header = read_header(record.image)
        if header.orientation == 1:
            return ""
        size = image_size(record.mask)
    except UserError:  # whoever decodes it says why it cannot be read
        return ""
    if header.size == header.upright_size:
        return None
    return size == header.upright_size
