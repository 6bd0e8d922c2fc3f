"""Names that become folders: of categories, defects, runs. The same rules on every system."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from adcommon.errors import BadValue

TRACKED, TRACKED_RUN = "tracking", "tracking.json"
"""Of all categories: what a tracker writes; of one: which of its runs is the category's."""
LOG, FINISHED, QUEUED = "command.log", "command-finished.yaml", "slurm-job.txt"
"""In the folder of a training in a process of its own: all that the command said, the command line that ended
well there, and the number of its job where it is one of Slurm."""
JOBS = "slurm"
"""What submitit keeps of these jobs, in the folder of all."""
OF_A_GROUP = (
    *("recipe.yaml", "log.txt", "results.json", "results.csv", "results.md", "results.html"),
    *(TRACKED, JOBS),
)
"""What the folder of a run holds beside the folders of its categories."""
OF_A_RUN = (
    *("metrics.csv", "speed.csv", "trace.json.gz", "results.json"),
    *("model", "model-best", "epochs", "resume", "maps"),
    *(TRACKED_RUN, LOG, FINISHED, QUEUED),
)
"""What the folder of a category holds."""

LONGEST_NAME = 100
"""Bytes of UTF-8; a file system takes 255, and suffixes are added to names."""

_FORBIDDEN = re.compile(r'[/\\<>:"|?*\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
"""Separators of folders, what Windows has no names with, control characters, bytes that are not UTF-8."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
"""Devices of Windows, with any suffix."""


def check_name(name: str, what: str = "name", where: str = "") -> str:
    """The name, if it can be that of a folder, on every system and nowhere but in its parent.

    >>> check_name("metal_nut", "category")
    'metal_nut'

    Args:
        what: is named: "category".
        where: the name comes from: "manifest.csv, line 2".

    Raises:
        BadValue: names it, where it stands, and what is wrong with it.
    """
    if reason := _fault(name):
        place = f"{where}: " if where else ""
        raise BadValue(
            f"{place}the {what} {_shown(name)} cannot be the name of a folder: {reason}; rename it"
        )
    return name


def check_category(name: str, where: str = "") -> str:
    """The name, if it can be a category's: of a folder, and of nothing that a run's folder holds itself.

    Raises:
        BadValue: as `check_name`.
    """
    check_name(name, "category", where)
    if name.casefold() in (*OF_A_GROUP, *OF_A_RUN) or name.startswith("."):
        place = f"{where}: " if where else ""
        raise BadValue(f"{place}the category '{name}' has a name that the folder of a run needs; rename it")
    return name


def as_name(text: str) -> str:
    """The nearest name that `check_category` takes: for folders found on disk, which may be called anything.

    >>> as_name("Teile 5: neu?"), as_name("metal_nut")
    ('Teile 5_ neu_', 'metal_nut')
    """
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text)).strip().strip(".").strip()
    if not name or name.casefold() in (*OF_A_GROUP, *OF_A_RUN) or _RESERVED.fullmatch(name):
        name = f"_{name}"
    return name.encode()[:LONGEST_NAME].decode(errors="ignore").rstrip(" .")


def check_distinct(names: Iterable[str], what: str = "names") -> None:
    """Refuse names that some systems take for one: they differ in case or in how accents are encoded.

    Raises:
        BadValue: names two of them.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            raise BadValue(
                f"the {what} {_shown(other)} and {_shown(name)} are one folder on Windows and macOS; "
                "rename one"
            )


@lru_cache(maxsize=4096)
def _fault(name: str) -> str | None:
    """What is wrong with a name."""
    if not name.strip():
        return "it is empty"
    if name in (".", ".."):
        return "it means another folder"
    if found := _FORBIDDEN.search(name):
        return f"it holds {found[0]!a}"
    if name != name.strip() or name.endswith("."):
        return "it begins or ends with a blank, or ends with a dot"
    if _RESERVED.fullmatch(name):
        return "Windows keeps it for a device"
    if (length := len(name.encode())) > LONGEST_NAME:
        return f"it has {length} bytes, at most {LONGEST_NAME} are taken"
    return None


def _shown(name: str) -> str:
    """A name as a message can hold it: short, without control characters."""
    short = name if len(name) <= 60 else f"{name[:57]}..."
    return ascii(short) if _FORBIDDEN.search(short) else f"'{short}'"
