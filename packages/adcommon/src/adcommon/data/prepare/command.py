"""`ad prepare NAME`: from a download, a folder or its archives, to the tree that training reads."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from adcommon.data.catalog import DATASETS, Dataset
from adcommon.data.prepare.aptos import Aptos
from adcommon.data.prepare.archives import is_archive, sha256, unpack
from adcommon.data.prepare.as_published import AsPublished, Bmad, Oct2017
from adcommon.data.prepare.brats import Brats
from adcommon.data.prepare.build import Link, carry_out, find_prepared
from adcommon.data.prepare.coco import Coco
from adcommon.data.prepare.isic2018 import Isic2018
from adcommon.data.prepare.labelled import Dagm, Ksdd2
from adcommon.data.prepare.mvtec import Mvtec3d, MvtecLoco
from adcommon.data.prepare.one_vs_rest import Cifar10, Mnist
from adcommon.data.prepare.plan import Plan, Preparer
from adcommon.data.prepare.quarter import BrainMri, Elpv, HeadCt, Textile
from adcommon.data.prepare.real_iad import RealIad
from adcommon.data.prepare.tiles import Aitex, Ksdd
from adcommon.data.prepare.visa import Visa
from adcommon.data.sources.embedded import PACKAGES
from adcommon.errors import BadValue, ChecksumMismatch, DatasetNotFound, UserError
from adcommon.io.files import delete
from adcommon.io.schema import check_fields
from adcommon.types.values import Positive

OWN: dict[str, Preparer] = {
    "visa": Visa(),
    "real_iad": RealIad(),
    "mvtec_3d": Mvtec3d(),
    "mvtec_loco": MvtecLoco(),
    "ksdd": Ksdd(),
    "ksdd2": Ksdd2(),
    "dagm": Dagm(),
    "aitex": Aitex(),
    "elpv": Elpv(),
    "textile": Textile(),
    "oct2017": Oct2017(),
    "aptos": Aptos(),
    "isic2018": Isic2018(),
    "brain_mri": BrainMri(),
    "head_ct": HeadCt(),
    "brats": Brats(),
    "bmad": Bmad(),
    "mnist": Mnist(),
    "cifar10": Cifar10(),
    "coco": Coco(),
}
"""Those with a preparer of their own, with the default options; `coco` is any of one's own images."""


def preparers() -> dict[str, Preparer]:
    """How each dataset is prepared, in the order of the catalogue; what is read as published, by copies."""
    published = {name: AsPublished(name) for name, entry in DATASETS.items() if entry.as_published}
    both = published | OWN
    return {name: both[name] for name in (*DATASETS, "coco") if name in both}


PREPARERS = preparers()
"""What `ad prepare` offers, by name."""

app = App(name="prepare", help="Turn a dataset's official download into the tree that training reads.")


@Parameter(name="*", group=Group("What to do", sort_key=1), negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class Request:
    """What every preparation takes besides the options of its dataset."""

    source: Annotated[
        tuple[Path, ...],
        Parameter(name=("--source", "--data-folder"), consume_multiple=True, show_default=False),
    ] = ()
    """The download: its folder, or one or more archives (.zip, .tar, .tar.gz, .tar.xz, .tar.bz2)."""
    target: Annotated[Path, Parameter(name=("--target", "--save-folder"))]
    """Where the prepared tree goes; outside of the download."""
    from_package: bool = False
    """Instead of --source: take the Python package that is installed with this one (elpv, textile)."""
    link: Link = "copy"
    """How images that stay as they are get there."""
    workers: Positive | None = None
    """Files made at the same time. [default: one per processor, at most 8]"""
    force: bool = False
    """Replace what is in the way."""
    dry_run: bool = False
    """Only say what would be made, with the number of files for each folder. An archive is unpacked for that,
    and what was unpacked is deleted again."""
    verify: bool = True
    """Compare archives with the owners' SHA-256 where it is known."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        check_fields(self)
        if bool(self.source) == self.from_package:
            raise BadValue("give either --source DIR_OR_ARCHIVE or, for elpv and textile, --from-package")


def prepare(name: str, preparer: Preparer, request: Request) -> None:
    """Prepare one dataset, or say what would be done, and print it."""
    options: dict[str, object] = asdict(preparer) if _has_options(preparer) else {}  # type: ignore[call-overload]
    archives = _digests(name, request)
    if archives and not request.force:
        found = find_prepared(name, request.target, archives, options)
        if found is not None:
            print(f"already prepared: {found}")
            return
    with _raw(name, request, archives) as source:
        try:
            plan = replace(preparer.plan(source, request.target), archives=archives)
        except UserError:  # another archive than it was taken for: nothing of it is kept
            if archives:
                delete(source)
            raise
        print(plan.summary())
        if not request.dry_run:
            link = "hard" if archives and _may_link(source, plan) else request.link
            carry_out(plan, link=link, force=request.force, workers=request.workers)


def _digests(name: str, request: Request) -> dict[str, str]:
    """SHA-256 of each archive by its name; empty if the source is a folder."""
    for path in request.source:
        if not path.exists():
            entry = _facts(name)
            expected = entry.download or entry.title
            raise DatasetNotFound(f"no such file or folder: {path}; expected {expected}\n{entry.page}")
    paths = [path for path in request.source if path.is_file()]
    if len(request.source) > 1 and len(paths) < len(request.source):
        raise BadValue("--source takes one folder, or one or more archives, not both")
    for path in paths:
        if not is_archive(path):
            raise BadValue(
                f"{path} is neither a folder nor an archive that can be unpacked (.zip, .tar, .tar.*)"
            )
    if paths and request.link == "symlink":
        raise BadValue(
            "--link symlink needs a folder as --source: what an archive is unpacked to is not kept"
        )
    digests = {path.name: sha256(path) for path in paths}
    for file, expected in _facts(name).archives.items():
        if request.verify and digests.get(file, expected) != expected:
            raise ChecksumMismatch(
                f"{file} is not the owners' archive: its SHA-256 is {digests[file]}, expected {expected}\n"
                "  Download it again, or go on with --no-verify."
            )
    return digests


@contextlib.contextmanager
def _raw(name: str, request: Request, archives: dict[str, str]) -> Iterator[Path]:
    """The folder of the raw download; that of an archive is deleted when all is done."""
    if request.from_package:
        if name not in PACKAGES:
            raise BadValue(f"{name} is in no Python package; give its download as --source")
        yield PACKAGES[name]()
        return
    if not archives:
        yield request.source[0]
        return
    target = request.target.resolve()
    folder = target.with_name(f".{target.name}.unpacked")
    unpack(request.source, folder, " ".join(archives.values()))
    try:
        yield folder
    except UserError as error:
        if not folder.exists() or request.dry_run:
            raise
        kept = f"What was unpacked is kept in {folder}, for the next try; delete it if there is none."
        raise type(error)(f"{error}\n  {kept}") from None
    finally:
        if request.dry_run:
            delete(folder)
    delete(folder)


def _facts(name: str) -> Dataset:
    return DATASETS.get(name, DATASETS["folder"])


def _may_link(unpacked: Path, plan: Plan) -> bool:
    """True if what was unpacked can become the tree, since it is deleted anyway: no second copy of gigabytes.

    Files that are wanted in several places are copied, so that each place has its own.
    """
    if len({step.source for step in plan.steps}) < len(plan.steps):
        return False
    original, probe = unpacked / ".probe", unpacked / ".probe-link"
    try:
        original.touch()
        probe.unlink(missing_ok=True)
        probe.hardlink_to(original)
    except OSError:
        return False
    return True


def _register(name: str, preparer: Preparer) -> None:
    """Add one sub-command: the fields of the preparer are flags, with their docstrings as help."""
    cls: Any = type(preparer)
    flat = Parameter(name="*", group=Group("Options of this dataset", sort_key=0), negative_iterable=())
    summary = f"{_facts(name).title}: {cls.__doc__}"

    def plain(request: Request) -> None:
        prepare(name, preparer, request)

    def with_options(request: Request, *, options: Annotated[cls, flat] = preparer) -> None:
        prepare(name, options, request)

    app.command(with_options if _has_options(preparer) else plain, name=name, help=summary)


def _has_options(preparer: Preparer) -> bool:
    return is_dataclass(preparer) and bool(fields(preparer))


for _name, _preparer in PREPARERS.items():
    _register(_name, _preparer)
