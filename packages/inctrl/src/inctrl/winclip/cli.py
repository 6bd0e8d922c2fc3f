"""The command `winclip-test`: parse, call, print."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from adcommon.cli.app import command
from adcommon.io.files import refuse_unwritable
from adcommon.io.places import default_root
from adcommon.results.rows import stamped, text, write_results
from adcommon.training.logging import start_logging
from adcommon.types.arithmetic import Precision
from adcommon.types.values import Count, Seed
from inctrl.data import datasets_asked_for, find_targets
from inctrl.recipes import PAPER_DATASETS


def test() -> None:
    """`winclip-test`: the baseline, which trains nothing."""
    command("winclip-test", _test)


def _test(
    *,
    category: Annotated[
        tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)
    ] = (),
    dataset: str | None = None,
    data_root: Path | None = None,
    data: Path | None = None,
    text_name: Annotated[str | None, Parameter(name="--text")] = None,
    shot: Annotated[Count, Parameter(alias="--shots")] = 0,
    seed: Seed = 10,
    reference_draw: Literal["auto", "reference", "distinct"] = "auto",
    tiles: Literal["along", "reference"] = "along",
    backbone: Annotated[str, Parameter(alias="--model")] = "ViT-B-16-plus-240",
    clip_tag: str = "laion400m_e31",
    weights: Annotated[str, Parameter(alias="--clip-weights")] = "pretrained",
    precision: Precision = "fp32",
    compile: bool = False,
    out: Path = Path("evaluation"),
    output: Path | None = None,
    maps: Path | None = None,
    gpu: str | None = None,
    device: str | None = None,
    note: str | None = None,
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
        precision: Arithmetic of the image tower; what is compared stays in fp32. auto is bf16 on a CUDA GPU
            of compute capability 8.0 or higher, else fp32.
        compile: Let torch.compile make its transformer faster: minutes before the first image.
        out: Folder for results.json and tables.
        output: File for the score of every image, CSV.
        maps: Folder for a picture of every test image's map.
        gpu: Number of the GPU, or `cpu`. [default: the first GPU if there is one]
        device: Device by its torch name: cpu, cuda:1, mps.
        note: Words of my own, which stand with every row of the results.
    """
    start_logging(None)
    refuse_unwritable(output)
    names = datasets_asked_for(data, dataset, category)
    targets = find_targets(names, data or data_root or default_root(), category)

    from adcommon.models.devices import choose_device, in_words
    from inctrl.evaluate import write_scores
    from inctrl.winclip.evaluate import load_winclip, score_target

    chosen = choose_device(gpu, device)
    winclip = load_winclip(
        backbone, clip_tag, weights, tiles=tiles, precision=precision, compile=compile, device=chosen
    )
    references = f"seed {seed}" if shot else "none"
    scored, rows = [], []
    for target in targets:
        draw = reference_draw
        if draw == "auto":
            draw = "reference" if target.dataset in PAPER_DATASETS else "distinct"
        scores, own = score_target(
            winclip, target, shot=shot, seed=seed, draw=draw, name=text_name, maps=maps
        )
        scored.append((target.dataset, references, scores))
        rows += own
    asked = {"tag": clip_tag, "draw": reference_draw, "text": text_name, "precision": precision}
    rows = stamped(rows, asked, in_words(chosen), note)
    write_results(out, rows)
    print(text(rows))
    if output is not None:
        write_scores(output, scored)
