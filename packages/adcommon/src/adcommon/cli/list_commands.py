"""`ad manifest`, the papers' names for it, and `ad few-shot`: lists of images written and converted."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from adcommon.data import DATASETS, load_splits
from adcommon.data.lists.fewshot import draw_references, write_references
from adcommon.data.lists.manifest import Form, of_categories, read_lines, read_manifest, write_manifest
from adcommon.data.sources.access import find_dataset, locate
from adcommon.data.sources.meaning import Meaning
from adcommon.errors import BadValue
from adcommon.io.places import default_root
from adcommon.types.values import Positive, Seed

Categories = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)]


def manifest(
    dataset: str = "folder",
    *,
    category: Categories = (),
    form: Annotated[Form, Parameter(name="--format")],
    out: Path,
    data_root: Path | None = None,
    data: Path | None = None,
    meta_train: Path | None = None,
    meta_test: Path | None = None,
    image_dir: Path | None = None,
    per_category: bool = False,
    good: Categories = (),
    bad: Categories = (),
    masks: Categories = (),
    seed: Seed = 0,
) -> None:
    """Write lists of a dataset's images, or convert lists from one form to another.

    Args:
        dataset: Name as `ad datasets` lists it; `folder` with `--data`.
        category: Categories to list. [default: all]
        form: `lines`: UniAD's and RealNet's JSON lines. `inctrl`: four JSON arrays for each category.
            `ader`: meta.json. `csv`: manifest.csv.
        out: Folder for the lists.
        data_root: Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]
        data: My own images, or lists to convert: a folder, or a single list.
        meta_train: JSON lines to convert: the training images.
        meta_test: JSON lines to convert: the test images.
        image_dir: Where the paths of lists begin, those read and those written; a manifest.csv is written
            with paths that hold wherever it is read. [default: the dataset's folder]
        per_category: Name JSON lines as RealNet does: for each category, and for all.
        good: Folders of normal images among my own, by name or path, where their names do not say it.
        bad: Folders of anomalous ones.
        masks: Folders of masks.
        seed: Draws what has no split of its own.
    """
    if dataset != "folder" and (data or meta_train or meta_test):
        raise BadValue(
            f"the dataset {dataset} and lists or images of your own were both given; use one of them"
        )
    if per_category and form != "lines":
        raise BadValue(f"--per-category names JSON lines, and --format is {form}; leave it out")
    meaning = Meaning(good, bad, masks)
    if meta_train or meta_test or (data is not None and image_dir is not None):
        meaning.refuse_for("lists")
    if meta_train or meta_test:
        splits = read_lines(meta_train, meta_test, image_dir)
    elif data is not None and image_dir is not None:
        splits = read_manifest(data, image_dir, seed=seed)
    else:
        name = "folder" if data else dataset
        folder = data or data_root or default_root()
        splits = load_splits(name, folder, category, seed=seed, meaning=meaning)
        image_dir = image_dir or locate(find_dataset(name), folder) or _folder_of(folder)
    chosen = of_categories(splits, category, data or meta_train or dataset)
    root = out if form == "csv" else image_dir
    written = write_manifest(form, out, chosen, root, per_category=per_category)
    for path in written:
        print(path)
    train = sum(len(split.train) for split in chosen.values())
    test = sum(len(split.test) for split in chosen.values())
    print(f"{len(chosen)} categories, {train} training and {test} test images")


def metadata_app(name: str, summary: str, *, per_category: bool, out: Path) -> App:
    """The command that writes a dataset's JSON lines, under the name that a paper's authors gave it.

    Args:
        per_category: name the lists as RealNet does: for each category, and for all.
        out: folder for the lists, unless the command line names another.
    """
    app = App(name=name, help=summary)
    default_out = out

    @app.default
    def command(
        *,
        dataset: Annotated[str, Parameter(alias="--layout")] = "mvtec",
        data_root: Path | None = None,
        data: Path | None = None,
        category: Annotated[Categories, Parameter(alias="--class-name")] = (),
        out: Path = default_out,
    ) -> None:
        """Write the lists.

        Args:
            dataset: Dataset name; `ad datasets` lists them.
            data_root: Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]
            data: A folder of my own images; short for `--dataset folder --data-root DIR`.
            category: Categories to list. [default: all]
            out: Folder for the lists; paths in them begin at the dataset's folder.
        """
        manifest(
            "folder" if data else dataset,
            category=() if "all" in category else category,
            form="lines",
            out=out,
            data_root=data_root,
            data=data,
            per_category=per_category,
        )

    return app


def few_shot(
    source: str,
    shots: Positive,
    *,
    category: Categories = (),
    out: Path | None = None,
    data_root: Path | None = None,
    seed: Seed = 0,
) -> None:
    """Draw normal reference images and write them to a list, one path a line.

    Args:
        source: Folder of normal images, or the name of a dataset, whose training images are drawn from.
        shots: Number of references, of each category.
        category: Categories of the dataset. [default: all]
        out: The list; of a dataset, the folder for the lists of its categories. [default: references.txt,
            or the folder references]
        data_root: Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]
        seed: Of the draw; with one seed, fewer references are the beginning of more.
    """
    if source not in DATASETS:
        if category:
            raise BadValue(f"{source} is no dataset and has no categories; datasets: {' '.join(DATASETS)}")
        out = out or Path("references.txt")
        write_references(out, draw_references(Path(source), shots, seed=seed), Path(source))
        print(f"{shots} references of {source} are listed in {out}; seed {seed}")
        return
    folder = data_root or default_root()
    root = locate(find_dataset(source), folder) or _folder_of(folder)
    out = out or Path("references")
    drawn = {
        name: draw_references(split.train, shots, seed=seed)
        for name, split in load_splits(source, folder, category, seed=seed).items()
    }
    for name, images in drawn.items():
        write_references(out / f"{name}.txt", images, root)
    print(f"{shots} references of each of {len(drawn)} categories are listed in {out}; seed {seed}")


def _folder_of(path: Path) -> Path:
    return path.parent if path.is_file() else path
