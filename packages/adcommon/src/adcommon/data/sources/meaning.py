"""What a user says of the folders of images of their own, where their names do not say it."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from adcommon.data.sources.words import Kind
from adcommon.errors import BadValue

Parts = tuple[str, ...]
"""The names of the folders from the user's folder down to one of them."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """Folders by name, or by path below the user's folder or a category's; "." is that folder itself."""

    good: tuple[str, ...] = ()
    """Of normal images."""
    bad: tuple[str, ...] = ()
    """Of anomalous images."""
    masks: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """True if anything is said."""
        return bool(self.good or self.bad or self.masks)

    def on(self, dataset: str, *beside: str) -> "Meaning":
        """What holds for one of several datasets: folders of one's own, if any of them is of one's own."""
        return self if dataset == "folder" or "folder" not in beside else NOTHING

    def refuse_for(self, what: str) -> None:
        """Refuse what says itself what is normal.

        Raises:
            BadValue: something is said.
        """
        if self:
            raise BadValue(f"--good, --bad and --masks are for folders of images of your own, not for {what}")

    def of(self, folder: Parts, category: Parts = ()) -> Kind | None:
        """What is said of a folder; None: nothing.

        Args:
            category: the folder of the category that it belongs to.
        """
        said: list[Kind] = []
        sayings: tuple[tuple[Kind, tuple[str, ...]], ...] = (
            ("good", self.good),
            ("bad", self.bad),
            ("masks", self.masks),
        )
        for kind, names in sayings:
            if any(_names(name, folder, category) for name in names):
                said.append(kind)
        if len(said) > 1:
            flags = " and ".join(f"--{kind}" for kind in said)
            raise BadValue(f"{flags} both name the folder {'/'.join(folder) or '.'}; use one of them")
        return said[0] if said else None

    def relative_to(self, root: Path) -> "Meaning":
        """The same, with paths of existing folders, as a shell completes them, taken from `root`."""

        def relative(name: str) -> str:
            path = Path(name)
            if len(path.parts) > 1 and path.is_dir() and path.resolve().is_relative_to(root.resolve()):
                return path.resolve().relative_to(root.resolve()).as_posix()
            return name

        good, bad, masks = (tuple(map(relative, names)) for names in (self.good, self.bad, self.masks))
        return Meaning(good, bad, masks)


NOTHING = Meaning()
"""The user says nothing; names of folders say all."""


def _names(name: str, folder: Parts, category: Parts) -> bool:
    """True if a name or a path means the folder, in any case."""
    wanted = tuple(part.casefold() for part in PurePosixPath(name.replace("\\", "/")).parts)
    here = tuple(part.casefold() for part in folder)
    below = here[len(category) :]
    return wanted in (here, below) or (len(wanted) == 1 and here[-1:] == wanted)
