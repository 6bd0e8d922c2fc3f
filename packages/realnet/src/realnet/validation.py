"""Measuring a model while it trains and at its end, and keeping what is to be kept of it."""

import logging
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adcommon.data import DATASETS
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import collect
from adcommon.evaluation.threshold import Threshold, calibrate
from adcommon.io.cache import default_cache
from adcommon.io.files import plain
from adcommon.models.checkpoint import save_model
from adcommon.results.card import model_card
from adcommon.training.settings import Settings
from adcommon.types.records import Evaluation, Record
from realnet.detector import RealNetDetector, make_detector
from realnet.evaluate import evaluate, report_row
from realnet.model import RealNet
from realnet.recipes import Recipe

logger = logging.getLogger(__name__)

PAPER = (
    "Zhang, Xu, Zhou: RealNet: A Feature Selection Network with Realistic Synthetic Anomaly for Anomaly "
    "Detection, CVPR 2024, https://arxiv.org/abs/2403.05897"
)


class Validation:
    """The test images of a model's category, and the best that was measured on them so far.

    The paper's code keeps the epoch that is best on the test set, an oracle. It is kept and reported beside
    the last one, and named as what it is.
    """

    def __init__(
        self,
        model: RealNet,
        preprocess: Preprocess,
        category: str,
        tests: Sequence[Record],
        recipe: Recipe,
        settings: Settings,
    ) -> None:
        """Nothing is computed before the first measurement."""
        self.model, self.preprocess, self.recipe, self.settings = model, preprocess, recipe, settings
        self.category, self.tests = category, tests
        self.best = -1.0
        self.best_rows: list[dict[str, Any]] = []
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and the rows of the report that it came with."""
        return {"best": self.best, "best_rows": self.best_rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.best, self.best_rows = float(state_dict["best"]), list(state_dict["best_rows"])

    def interim(self, step: int, best_folder: Path) -> dict[str, float]:
        """Test metrics in the middle of a training, for metrics.csv and the log.

        Args:
            step: updates done.
            best_folder: where the model goes if it is the best so far and the recipe keeps it.
        """
        if {record.label for record in self.tests} != {0, 1}:
            return {}
        evaluations = self._evaluate()
        values = {
            metric: value
            for metric in ("image_auroc", "pixel_auroc", "aupro")
            if (value := getattr(evaluations[0], metric)) is not None
        }
        logger.info("%s", "  ".join(f"{name} {100 * value:.2f}" for name, value in values.items()))
        self._keep_best(evaluations, step, best_folder)
        return values

    def final(
        self,
        step: int,
        held_out: Sequence[Record],
        *,
        folder: Path,
        best_folder: Path,
        maps: Path | None,
    ) -> list[dict[str, Any]]:
        """Evaluate the model as it stands and save it; the rows of the report, those of the best last.

        Args:
            step: updates done.
            held_out: normal images that training has not seen, for the decision threshold.
            folder: where the model goes.
            best_folder: where it goes too if it is the best and the recipe keeps it.
            maps: folder for pictures; None writes none.
        """
        threshold = self._threshold(held_out)
        evaluations = self._evaluate(threshold=None if threshold is None else threshold.value, maps=maps)
        rows = self._rows(evaluations, "last")
        self._save(folder, step, rows=rows, threshold=threshold)
        self._keep_best(evaluations, step, best_folder)
        return rows + self.best_rows

    def _keep_best(self, evaluations: Sequence[Evaluation], step: int, folder: Path) -> None:
        key = key_metric(evaluations)
        if self.recipe.keep_best and key >= self.best:  # Faithful: of equal results the latest is kept
            self.best, self.best_rows = key, self._rows(evaluations, "best-on-test")
            self._save(folder, step, rows=self.best_rows, threshold=None)

    def _rows(self, evaluations: Sequence[Evaluation], selection: str) -> list[dict[str, Any]]:
        seconds = time.monotonic() - self._began
        return [
            report_row(evaluation, self.recipe, self.settings.weights, seconds, selection)
            for evaluation in evaluations
        ]

    def _threshold(self, held_out: Sequence[Record]) -> Threshold | None:
        """The decision threshold; None if no image was kept out of training for it."""
        if not held_out:
            return None
        cache = default_cache("images", enabled=self.settings.cache)
        scores = collect(
            self._detector(),
            AnomalyDataset(held_out, self.preprocess, cache),
            batch_size=self.recipe.test_batch_size,
            keep_maps=False,
        )
        return calibrate(scores.image_scores, self.settings.false_alarm_rate)

    def _save(
        self, folder: Path, step: int, *, rows: list[dict[str, Any]], threshold: Threshold | None
    ) -> None:
        """Write the model folder."""
        recipe = self.recipe
        config = {
            "method": "realnet",
            "dataset": recipe.dataset,
            "category": self.category,
            "categories": [self.category],
            "setting": "one-class",
            "recipe": plain(recipe),
            "backbone": recipe.backbone,
            "weights": self.settings.weights,
            "seed": recipe.seed,
            "step": step,
            "preprocess": plain(self.preprocess),
            "threshold": plain(threshold),
            "metrics": rows,
        }
        card = model_card(
            config,
            title="RealNet",
            paper=PAPER,
            data_notice=f"{DATASETS[recipe.dataset].title}: {DATASETS[recipe.dataset].licence}",
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        )
        save_model(folder, tensors=self.model.state_dict(), config=config, card=card)

    def _evaluate(self, *, threshold: float | None = None, maps: Path | None = None) -> list[Evaluation]:
        return evaluate(
            self._detector(),
            {self.category: self.tests},
            self.recipe,
            cache=default_cache("images", enabled=self.settings.cache),
            workers=self.settings.workers,
            eval_size=self.settings.eval_size,
            threshold=threshold,
            maps=maps,
        )

    def _detector(self) -> RealNetDetector:
        device = next(self.model.parameters()).device
        return make_detector(self.model, self.preprocess, self.recipe, device)


def key_metric(evaluations: Sequence[Evaluation]) -> float:
    """What the reference chooses its epoch by: the mean of image and pixel AUROC, by its own labels."""
    evaluation = evaluations[-1]
    values = [value for value in (evaluation.image_auroc, evaluation.pixel_auroc) if value is not None]
    return sum(values) / len(values)
