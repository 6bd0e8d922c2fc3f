"""The command `ad`: what concerns every method. A sub-command imports what it needs when it runs."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from adcommon import __version__
from adcommon.cli.app import execute
from adcommon.cli.model_commands import predict_app
from adcommon.errors import BadValue
from adcommon.io.places import default_root
from adcommon.types.values import NotNegative, Positive

app = App(name="ad", help="Visual anomaly detection: what all methods share.", version=__version__)
app.command(
    "adcommon.data.prepare.command:app",
    name="prepare",
    help="Turn a dataset's official download into the tree that training reads.",
)
app.command(
    "adcommon.cli.evaluate:evaluate",
    name="evaluate",
    help="Evaluate a trained model of any method on the test images of a dataset.",
)
app.command(predict_app("predict"))
app.command(
    "adcommon.cli.watch:watch", name="watch", help="Score the images of a folder as they arrive, each once."
)
app.command("adcommon.cli.list_commands:manifest", name="manifest", help="Write lists of a dataset's images.")
app.command(
    "adcommon.cli.quickstart:quickstart",
    name="quickstart",
    help="Train on real images that need no download, some minutes on two CPU cores, and show what came out.",
)
app.command(
    "adcommon.cli.sweep:sweep",
    name="sweep",
    help="Run a training command for several seeds or values; mean and standard deviation of what comes out.",
)
app.command(
    "adcommon.cli.reproduce:reproduce",
    name="reproduce",
    help="Train what a paper's tables are made of, and set ours beside the paper's.",
)
app.command(
    "adcommon.cli.compare:app",
    name="compare",
    help="Train every method on the same images, in the time that there is, and say which one to use.",
)
app.command(
    "adcommon.cli.doctor:doctor",
    name="doctor",
    help="Print what this machine has, to paste into an issue, and what is likely to go wrong.",
)
app.command(
    "adcommon.cli.init:init",
    name="init",
    help="Look at my own photographs, and write what was understood as a file for --config.",
)
app.command(
    "adcommon.cli.serve:serve",
    name="serve",
    help="Answer over HTTP what trained models say of images, with a page to drop photographs on.",
)
app.command("adcommon.cli.list_commands:few_shot", name="few-shot", help="Draw normal reference images.")

Root = Annotated[Path | None, Parameter(name="--data-root")]
Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)]


def main() -> None:
    """The console command `ad`."""
    execute(app)


@app.command
def methods() -> None:
    """List the installed methods and their commands."""
    from adcommon.methods import commands, installed

    for name in installed():
        print(f"{name:<12} {' '.join(commands(name))}")


@app.command
def datasets(*name: str, data_root: Root = None) -> None:
    """List the datasets: what was found on this machine, licence, and the papers that use them.

    Args:
        name: Say everything about these: categories, official page, and which paper uses them how.
        data_root: Folder that holds the datasets. [default: $AD_DATA, else ./data]
    """
    from adcommon.data import DATASETS
    from adcommon.data.check.inventory import describe, summarise
    from adcommon.data.sources.access import find_dataset

    root = data_root or default_root()
    for entry in map(find_dataset, name):
        print(describe(entry, root))
    for entry in () if name else DATASETS.values():
        print(summarise(entry, root))


@app.command
def check(
    dataset: str,
    *category: str,
    data_root: Root = None,
    good: Names = (),
    bad: Names = (),
    masks: Names = (),
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    max_megapixels: Annotated[Positive | None, Parameter(show_default=False)] = None,
) -> None:
    """Say what was understood of a dataset, and list every problem; exit code 1 if there are any but notes.

    Args:
        dataset: Name as `ad datasets` lists it; `folder` for my own images.
        category: Categories to look at; all by default.
        data_root: Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]
        good: Folders of normal images among my own, by name or path, where their names do not say it.
        bad: Folders of anomalous ones.
        masks: Folders of masks.
        json: File for the problems as a list of objects, with every path.
        max_megapixels: Largest picture that is decoded, in millions of pixels.
            [default: $AD_MAX_MEGAPIXELS, else 100]
    """
    from adcommon.data.check.dataset import check as look
    from adcommon.data.sources.meaning import Meaning
    from adcommon.io.decoding import allow_megapixels
    from adcommon.io.files import atomic_write, json_text
    from adcommon.training.logging import start_logging

    start_logging(None)
    if max_megapixels is not None:
        allow_megapixels(max_megapixels)
    problems = look(dataset, data_root or default_root(), category, meaning=Meaning(good, bad, masks))
    for problem in problems:
        print(problem)
    counts = Counter(problem.severity for problem in problems)
    print(f"errors: {counts['error']}, warnings: {counts['warning']}, notes: {counts['note']}")
    if json is not None:
        atomic_write(json, json_text([problem.as_facts() for problem in problems]))
    if counts["error"] or counts["warning"]:
        raise SystemExit(1)


@app.command
def weights() -> None:
    """List the backbone weights: file, origin, checksum, and whether they are on this machine."""
    from adcommon.models.weights import KNOWN, describe

    for source in map(describe, KNOWN):
        print(source.tag)
        print(f"    file {source.file}, SHA-256 {source.sha256 or 'unknown'}..., {source.url}")
        print(f"    {f'found: {source.found}' if source.found else 'not on this machine'}")


@app.command
def export(
    model: Path,
    *,
    out: Path | None = None,
    category: str | None = None,
    references: Path | None = None,
    precision: Literal["fp32", "int8"] = "fp32",
    format: Literal["onnx", "openvino"] = "onnx",
    target: Literal["triton"] | None = None,
    check_images: Path | None = None,
    calibration_images: Path | None = None,
    max_change: Annotated[NotNegative | None, Parameter(show_default=False)] = None,
) -> None:
    """Write a trained model of any method as one ONNX file, and check that it computes the same.

    The graph takes any number of images (pixels, uint8, batch x size x size x RGB) and gives scores, anomaly
    maps, and as far as the model is calibrated p-values and decisions (docs/deploy.md); `ad predict --model
    FILE.onnx` runs it. Needs `uv pip install 'adcommon[export]'`.

    Args:
        model: The `model` folder that a training run left.
        out: The file, .onnx or .xml, or for Triton the model's folder in its repository. [default: model.onnx
            or model.xml in the current folder, or triton/<method>]
        category: Which of the categories the model knows; for methods that ask.
        references: Folder of normal images to compare with, kept in the file; for few-shot methods.
        precision: int8 is smaller and often faster, and another model: it is calibrated again.
        format: openvino writes its own form, .xml and .bin (`adcommon[openvino]`).
        target: triton writes a folder with the configuration that NVIDIA's server reads.
        check_images: Folder of images on which torch and the file must agree; good ones in a folder that says
            so, defective ones beside it. [default: drawn pixels; for int8 the calibration images]
        calibration_images: Folder of normal images for int8, best none that the model was trained on: every
            fourth gives the ranges of values, the others the threshold.
        max_change: Above this nothing is written: the largest difference as a share of the largest output;
            for int8 one minus the rank correlation of the scores, or the AUROC lost if that is more.
            [default: 1e-4; for int8 0.1]
    """
    import adcommon
    from adcommon.training.logging import start_logging

    start_logging(None)
    loaded = adcommon.load(model, category=category, references=references, device="cpu", precision="fp32")
    usual = (
        Path("triton", loaded.method)
        if target
        else Path("model.xml" if format == "openvino" else "model.onnx")
    )
    path = out or usual
    checked = adcommon.export(
        loaded,
        path,
        precision=precision,
        format=format,
        target=target,
        check_images=check_images,
        calibration_images=calibration_images,
        max_change=max_change,
    )
    print(f"{path}: {checked.words}")


@app.command
def report(*results: Path, spread: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Print results.json of one run as a table, or compare several runs in one table.

    Of several, the table has intervals and counts, and says below which runs cannot be told apart, as far as
    they kept the scores of the same test images (`--maps`).

    Args:
        results: Files named results.json, or the folders that hold them.
        spread: All in one table, mean and standard deviation over seeds: several of `ad sweep`, side by side.
    """
    from adcommon.evaluation.report import comparison
    from adcommon.results import spread as seeds
    from adcommon.results.rows import read_results, text
    from adcommon.results.scores import read_scores
    from adcommon.results.tables import aligned

    if not results:
        raise BadValue("no results given; pass the --out folder of one or more runs")
    rows = {str(path): read_results(path) for path in results}
    if spread:
        print("\n\n".join(map(aligned, seeds.spread_tables(seeds.spread(seeds.together(rows))))))
        return
    if len(rows) == 1:
        print(text(rows[str(results[0])]))
        return
    scores = {str(path): read_scores(path if path.is_dir() else path.parent) for path in results}
    print(aligned(comparison(rows, scores)))
