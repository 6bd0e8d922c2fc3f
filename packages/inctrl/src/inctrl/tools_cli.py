"""The commands `inctrl-json`, `inctrl-few-shot` and `winclip-test`: parse, call, print."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from adcommon.cli.app import execute
from adcommon.errors import BadValue
from adcommon.io.places import default_root
from adcommon.results.rows import text, write_results
from adcommon.training.logging import start_logging
from inctrl.compat.lists import Endings, Part, scan, write_lists

_Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)]


def json() -> None:
    """`inctrl-json`: the authors' lists of one category, or of all of a dataset."""
    app = App(
        name="inctrl-json", help="Write InCTRL's JSON lists: `train` (auxiliary data) or `val` (to test)."
    )
    app.default(_json)
    execute(app)


def few_shot() -> None:
    """`inctrl-few-shot`: a few-shot file of the authors' kind from a folder of normal images."""
    app = App(name="inctrl-few-shot", help="Make a few-shot file CATEGORY.pt from normal images.")
    app.default(_few_shot)
    execute(app)


def winclip_test() -> None:
    """`winclip-test`: the baseline, which trains nothing."""
    app = App(name="winclip-test", help="Test WinCLIP, which trains nothing, with k normal images or none.")
    app.default(_winclip)
    execute(app)


def _json(
    part: Part,
    *,
    name: Annotated[_Names, Parameter(alias=("--dataset-name", "--category"))] = (),
    dataset_dir: Path = Path("datasets"),
    output_dir: Annotated[Path, Parameter(alias="--out")] = Path("datasets/AD_json"),
    dataset: str | None = None,
    data_root: Path | None = None,
    endings: Endings = "all",
) -> None:
    """Write InCTRL's JSON lists: `train` (auxiliary data) or `val` (to test).

    Args:
        part: `train`: NAME_normal.json and NAME_outlier.json; `val`: NAME_val_normal.json and so on.
        name: Categories, folders below dataset-dir. [default: all]
        dataset_dir: Folder of folders NAME/train/good and NAME/test/DEFECT; paths in the lists begin with it.
        output_dir: Folder for the lists.
        dataset: Dataset of the catalogue instead of dataset-dir; `ad datasets` lists them.
        data_root: Folder that holds the dataset, or the dataset itself. [default: $AD_DATA, else ./data]
        endings: `reference` lists what the authors' script does, which passes over .JPG, .bmp and others.
    """
    written = 0
    if dataset is not None:
        from adcommon.data import load_splits

        for category, split in load_splits(dataset, data_root or default_root(), name).items():
            written += len(write_lists(part, output_dir, category, split))
    else:
        names = name or sorted(path.name for path in dataset_dir.glob("*") if (path / "test").is_dir())
        if not names:
            raise BadValue(
                f"no folders with test in {dataset_dir}; pass --dataset-dir DIR, or --dataset NAME"
            )
        for category in names:
            found = scan(dataset_dir / category, category, endings)
            written += len(write_lists(part, output_dir, category, found.split))
            if found.skipped:
                print(
                    f"{category}: {found.skipped} files were passed over: not an image by --endings {endings}"
                )
    print(f"{written} lists are in {output_dir}")


def _few_shot(
    images: Path,
    *,
    category: str | None = None,
    count: Annotated[int, Parameter(alias=("--shots", "--shot"))] = 2,
    seed: int = 0,
    out: Path = Path("fs_samples"),
    image_size: int = 240,
) -> None:
    """Make a few-shot file CATEGORY.pt from normal images.

    Args:
        images: Folder of normal images; some are drawn.
        category: Name of the file. [default: the folder's name]
        count: Images in it.
        seed: Of the draw; with one seed, fewer images are the beginning of more.
        out: Folder for the file.
        image_size: Side of the images, pixels.
    """
    from inctrl.backbone import make_preprocess
    from inctrl.compat.fewshot_files import write_few_shot_file
    from inctrl.recipes import MVTEC
    from inctrl.references import drawn

    start_logging(None)
    preprocess = make_preprocess(MVTEC, image_size)
    references = drawn(images, count, seed, preprocess)
    path = out / f"{category or images.resolve().name}.pt"
    write_few_shot_file(path, list(references.images))
    for source in references.paths:
        print(source)
    print(f"{count} references are in {path}; seed {seed}")


def _winclip(
    *,
    category: Annotated[_Names, Parameter()] = (),
    dataset: str | None = None,
    data_root: Path | None = None,
    data: Path | None = None,
    text_name: Annotated[str | None, Parameter(name="--text")] = None,
    shot: Annotated[int, Parameter(alias="--shots")] = 0,
    seed: int = 10,
    reference_draw: Literal["auto", "reference", "distinct"] = "auto",
    tiles: Literal["along", "reference"] = "along",
    backbone: Annotated[str, Parameter(alias="--model")] = "ViT-B-16-plus-240",
    clip_tag: str = "laion400m_e31",
    weights: Annotated[str, Parameter(alias="--clip-weights")] = "pretrained",
    precision: Literal["fp32", "bf16"] = "fp32",
    out: Path = Path("evaluation"),
    output: Path | None = None,
    maps: Path | None = None,
    gpu: str | None = None,
    device: str | None = None,
) -> None:
    """Test WinCLIP, which trains nothing, with k normal images or none.

    Args:
        category: Categories to test; their dataset is found by itself. [default: all of the dataset]
        dataset: Dataset name; `ad datasets` lists them.
        data_root: Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]
        data: A folder of my own images; short for `--dataset folder --data-root DIR`.
        text_name: What the images show, for the sentences. [default: the category]
        shot: Normal reference images of each category; 0: zero-shot.
        seed: Of the draw of references.
        reference_draw: `reference` may draw an image twice, as the reference code does; `auto` does so for
            datasets of the papers.
        tiles: Images that are not square are cut along their longer side; `reference` cuts along x always.
        backbone: One of open_clip's ViTs, or a JSON file in open_clip's form.
        clip_tag: Which of its weights `pretrained` means, or are expected in a file.
        weights: `pretrained`, `random` (for trials only), or a file.
        precision: Arithmetic of the image tower.
        out: Folder for results.json and tables.
        output: File for the score of every image, CSV.
        maps: Folder for a picture of every test image's map.
        gpu: Number of the GPU, or `cpu`. [default: the first GPU if there is one]
        device: Device by its torch name: cpu, cuda:1, mps.
    """
    from adcommon.data import load_splits
    from adcommon.models.devices import choose_device
    from inctrl.evaluate import write_scores
    from inctrl.recipes import PAPER_DATASETS
    from inctrl.sources import Target, datasets_of
    from inctrl.winclip.evaluate import load_winclip, score_target

    start_logging(None)
    if data is None and dataset is None and not category:
        raise BadValue("what is to be tested? Pass --category NAME, --dataset NAME, or --data DIR")
    root = data or data_root or default_root()
    if data is not None or dataset is not None:
        wanted = {"folder" if data is not None else str(dataset): category}
    else:
        wanted = {}
        for owner in datasets_of(category):
            owning, _, own = owner.partition("/")
            wanted[owning] = (*wanted.get(owning, ()), own)
    targets = [
        Target(owner, key, split.test, split.train)
        for owner, names in wanted.items()
        for key, split in load_splits(owner, root, names).items()
    ]
    winclip = load_winclip(
        backbone, clip_tag, weights, tiles=tiles, precision=precision, device=choose_device(gpu, device)
    )
    results = []
    for target in targets:
        draw = reference_draw
        if draw == "auto":
            draw = "reference" if target.dataset in PAPER_DATASETS else "distinct"
        results.append(
            score_target(winclip, target, shot=shot, seed=seed, draw=draw, name=text_name, maps=maps)
        )
    rows = [row for result in results for row in result.rows]
    write_results(out, rows)
    print(text(rows))
    if output is not None:
        name = f"seed {seed}" if shot else "none"
        write_scores(output, [(result.target, name, result.scores) for result in results])
