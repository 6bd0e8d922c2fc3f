"""README.md of a model folder, for people."""

from collections.abc import Mapping
from typing import Any

from adcommon.io.files import plain
from adcommon.results import rows as report


def model_card(config: Mapping[str, Any], *, title: str, paper: str, data_notice: str, command: str) -> str:
    """README.md of a model folder: what it is, how it was made, what it may be used for, how to load it.

    `config` is that of `save_model`; `paper` the citation with its URL; `data_notice` the licence of the
    training images, which a model may inherit; `command` the command line that trained it.
    """
    values = plain(config)
    method, rows, threshold = values["method"], values["metrics"], values["threshold"]
    decision = "No decision threshold is stored."
    if threshold is not None:
        decision = (
            f"An image is called anomalous if its score is greater than {threshold['value']:.6g}, calibrated "
            f"on {threshold['images']} normal images kept out of training for a false-alarm rate of "
            f"{threshold['false_alarm_rate']:g}"
            f"{'.' if threshold['supported'] else ', which that few cannot support.'}"
        )
    measured = report.markdown(rows) if rows else "Not evaluated.\n"
    recipe = "\n".join(f"- `{name}`: {value}" for name, value in values["recipe"].items())
    return f"""---
library_name: adcommon
tags: [anomaly-detection, {method}]
---
# {title}: {values["category"]}

Paper: {paper}

Backbone: `{values["backbone"]}`. {decision}

## How to use it

    uv run {method}-predict IMAGE_OR_FOLDER --model THIS_FOLDER

or from Python:

    from pathlib import Path
    from adcommon.methods import find
    detector = find("{method}")(Path("THIS_FOLDER"))

## Results

{measured}
Each table names its protocol: "standard" numbers compare with other methods', a paper's own do not.

## Training

    {command}

{recipe}

## Licence of the training data

{data_notice}
"""
