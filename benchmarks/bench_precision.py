"""How half precision moves the scores of the quick start's models, on the test images of ELPV's `mono`.

Run: uv run python benchmarks/bench_precision.py quickstart      (the folder of `ad quickstart`, or its like)
"""

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from scipy.stats import spearmanr

from adcommon.data import load_splits
from adcommon.data.lists.fewshot import draw_references
from adcommon.data.loading import AnomalyDataset
from adcommon.evaluation.collect import Scores, collect
from adcommon.io.places import default_root
from adcommon.methods import load_folder
from adcommon.metrics import auroc
from adcommon.models.compute import ask
from adcommon.types.arithmetic import Precision
from adcommon.types.prediction import Detector

METHODS = {"recontrast": 0, "uniad": 0, "realnet": 0, "inctrl": 8, "resad": 4}
"""And their references."""


def score(detector: Detector, data: AnomalyDataset, precision: Precision) -> Scores:
    ask(detector, precision, compiles=False)
    return collect(detector, data, batch_size=16, keep_maps=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", default="bf16", choices=get_args(Precision))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    split = load_splits("elpv", default_root(), ("mono",))["mono"]
    labels = np.array([record.label for record in split.test])
    print(f"{len(labels)} images, {torch.get_num_threads()} threads, {options.precision} on {options.device}")
    print("method      largest change  of range  rank correlation  AUROC fp32  AUROC half  decided otherwise")
    for method, shots in METHODS.items():
        (model,) = options.folder.glob(f"{method}/*/model")
        references = draw_references(split.train, shots, seed=0) if shots else ()
        category = "mono" if shots else None
        detector, config = load_folder(
            model, category=category, references=references, device=torch.device(options.device)
        )
        data = AnomalyDataset(split.test, detector.preprocess)
        full, half = (score(detector, data, name).image_scores for name in ("fp32", options.precision))
        largest, threshold = np.abs(full - half).max(), config["threshold"]
        decided = "-"
        if threshold is not None:
            decided = ((full > threshold["value"]) != (half > threshold["value"])).sum()
        share, rank = 100 * largest / np.ptp(full), spearmanr(full, half)[0]
        print(
            f"{method:10} {largest:15.4f} {share:7.2f} % {rank:17.4f} "
            f"{100 * auroc(full, labels):11.2f} {100 * auroc(half, labels):11.2f} {decided:>18}",
            flush=True,
        )


if __name__ == "__main__":
    main()
