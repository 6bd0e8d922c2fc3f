"""What a model is, for people: README.md of a model folder, and the card beside an exported file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adcommon.data import DATASETS
from adcommon.data.kind import Kind
from adcommon.io.files import plain
from adcommon.io.schema import build
from adcommon.io.text import printable
from adcommon.io.versions import command_line
from adcommon.results.rows import markdown
from adcommon.results.tables import in_markdown
from adcommon.types.threshold import Threshold


@dataclass(frozen=True, slots=True)
class Paper:
    """What a method is called, and where it was published."""

    title: str
    citation: str
    """Authors, title, place and URL."""
    use: str = ""
    """How to use a model that scores no images, in Markdown."""


def model_card(config: Mapping[str, Any], paper: Paper) -> str:
    """README.md of a model folder: what it is, how it was made, what it may be used for, how to load it.

    A model may inherit the licence of its training images, which is named.

    Args:
        config: that of `models.checkpoint.save_model`; what is under "training" is said as it is.
    """
    values = plain(config)
    data = DATASETS[values.get("trained_on") or values["dataset"]]
    method, rows, threshold = values["method"], values["metrics"], values["threshold"]
    decision = "" if paper.use else "No decision threshold is stored."
    if threshold is not None:
        known = build(Threshold, threshold, "threshold")
        decision = (
            f"An image is called anomalous if its score is greater than {known.value:.6g}: {known.promise}."
            if known.supported
            else f"Scores rank images; none is called anomalous: {known.remedy}. Their highest score is "
            f"{known.value:.6g}."
        )
    computed = ""
    if known_in := values.get("computed_in"):
        computed = f" Computed in {known_in} (asked for: {values['recipe']['precision']})."
    state = "".join(
        f"- {name}: {in_markdown(str(value))}\n" for name, value in values.get("training", {}).items()
    )
    measured = state or "Not evaluated.\n"
    if rows:
        measured = f'{markdown(rows)}\nEach table names its protocol: "standard" numbers compare with other '
        measured += "methods', a paper's own do not.\n"
    kinds = [build(Kind, kind, "kinds") for kind in values.get("kinds", ())]
    knows = "".join(f"- {kind.words}\n" for kind in kinds)
    if knows:
        said = "Normal images with these numbers. One that lies far outside is called unfamiliar, not normal."
        knows = f"## What it knows\n\n{said}\n\n{knows}\n"
    compared = values.get("setting") == "few-shot"
    flag, keyword = (" --references NORMAL_IMAGES", ', references="NORMAL_IMAGES"') if compared else ("", "")
    use = f"""\
    uv run {method}-predict IMAGE_OR_FOLDER --model THIS_FOLDER{flag}

or from Python:

    import adcommon as ad
    result = ad.load("THIS_FOLDER"{keyword}).predict("IMAGE")
    result.score, result.is_anomalous, result.anomaly_map"""
    recipe = "\n".join(f"- `{name}`: {in_markdown(str(value))}" for name, value in values["recipe"].items())
    return f"""---
library_name: adcommon
tags: [anomaly-detection, {method}]
---
# {paper.title}: {in_markdown(values["category"])}

Paper: {paper.citation}

Backbone: {in_markdown(values["backbone"])}.{computed} {decision}

## How to use it

{paper.use or use}

{knows}## Results

{measured}
## Training

    {printable(command_line())}

{_origin(values.get("provenance", {}))}{recipe}

## Licence of the training data

{data.title}: {data.licence}
"""


def _origin(made: Mapping[str, Any]) -> str:
    """What the model was made of and by, a line each."""
    facts = {
        "training images": made.get("images"),
        "their digest": made.get("data"),
        "commit": made.get("commit"),
        "device": made.get("device"),
        "digest of the values below": made.get("recipe"),
    }
    lines = [f"- {name}: {in_markdown(str(value))}\n" for name, value in facts.items() if value is not None]
    return "".join(lines) + ("\n" if lines else "")


def file_card(name: str, source: str, worth: str, checked: str) -> str:
    """Card of an exported file.

    Args:
        source: the model that it was made of.
        worth: what its decisions are worth.
        checked: how it compares with that model.
    """
    return f"""---
library_name: adcommon
tags: [anomaly-detection]
---
# {in_markdown(name)}

Written by `ad export` of {in_markdown(source)}: {worth}.

Checked before it was written: {checked}.
"""
