"""Measuring a model while it trains and at its end, on features of the test images that are computed once."""

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adcommon.data import DATASETS
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.threshold import Threshold, calibrate
from adcommon.io.cache import default_cache
from adcommon.io.files import plain
from adcommon.models.checkpoint import save_model
from adcommon.models.feature_store import FeatureStore
from adcommon.results.card import model_card
from adcommon.training.settings import Settings
from adcommon.types.records import Evaluation, Record, Split
from uniad.data import feature_store
from uniad.detector import make_detector
from uniad.evaluate import collect, evaluate
from uniad.model import UniAD
from uniad.recipes import Recipe

logger = logging.getLogger(__name__)

PAPER = (
    "You, Cui, Shen, Yang, Lu, Zheng, Le: A Unified Model for Multi-class Anomaly Detection, NeurIPS 2022, "
    "https://arxiv.org/abs/2206.03687"
)


class Validation:
    """The test images of a model's categories, and the best that was measured on them so far.

    The paper's code chooses a "best" checkpoint by its results on the test set; it is kept beside the last
    one, and the last one is what is reported.
    """

    def __init__(
        self,
        model: UniAD,
        preprocess: Preprocess,
        splits: Mapping[str, Split],
        recipe: Recipe,
        settings: Settings,
    ) -> None:
        """Nothing is computed before the first measurement."""
        self.model, self.preprocess, self.recipe, self.settings = model, preprocess, recipe, settings
        self.splits = splits
        self.tests = {name: split.test for name, split in splits.items()}
        self.best = -1.0
        self._stores: dict[str, FeatureStore] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.best = float(state_dict["best"])

    def interim(self, best_folder: Path) -> dict[str, float]:
        """Test metrics in the middle of a training, for metrics.csv and the log.

        Args:
            best_folder: where the model goes if it is the best so far and the recipe keeps it.
        """
        both = {name for name, tests in self.tests.items() if {r.label for r in tests} == {0, 1}}
        evaluations = self._evaluate(replace(self.recipe, protocol="standard"), only=both)
        values = {}
        for evaluation in evaluations:
            for metric in ("image_auroc", "pixel_auroc", "aupro"):
                if (value := getattr(evaluation, metric)) is not None:
                    values[f"{evaluation.category}/{metric}"] = value
        logger.info("%s", "  ".join(f"{name} {100 * value:.2f}" for name, value in values.items()))
        key = key_metric(evaluations)
        if self.recipe.keep_best and key is not None and key >= self.best:
            self.best = key
            self.save(best_folder, rows=[], threshold=None)
        return values

    def final(self, threshold: Threshold | None, maps: Path | None) -> list[Evaluation]:
        """What is reported of the model as it stands.

        Args:
            maps: folder for pictures; None writes none.
        """
        return self._evaluate(
            self.recipe, threshold=None if threshold is None else threshold.value, maps=maps
        )

    def threshold(self, held_out: Sequence[Record]) -> Threshold | None:
        """The decision threshold from normal images that training has not seen; None if there are none."""
        if not held_out:
            return None
        cache = default_cache("images", enabled=self.settings.cache)
        dataset = AnomalyDataset(held_out, self.preprocess, cache)
        detector = make_detector(self.model, self.preprocess, self.recipe)
        scores, _ = collect(detector, dataset, batch_size=self.recipe.test_batch_size, keep_maps=False)
        return calibrate(scores.image_scores, self.settings.false_alarm_rate)

    def save(self, folder: Path, *, rows: list[dict[str, Any]], threshold: Threshold | None) -> None:
        """Write the model folder."""
        recipe = self.recipe
        config = {
            "method": "uniad",
            "dataset": recipe.dataset,
            "category": "+".join(self.splits),
            "categories": list(self.splits),
            "setting": "multi-class" if recipe.multiclass else "one-class",
            "recipe": plain(recipe),
            "backbone": recipe.backbone,
            "weights": self.settings.weights,
            "seed": recipe.seed,
            "preprocess": plain(self.preprocess),
            "threshold": plain(threshold),
            "metrics": rows,
        }
        card = model_card(
            config,
            title="UniAD",
            paper=PAPER,
            data_notice=f"{DATASETS[recipe.dataset].title}: {DATASETS[recipe.dataset].licence}",
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        )
        save_model(folder, tensors=self.model.state_dict(), config=config, card=card)

    def _evaluate(
        self,
        recipe: Recipe,
        *,
        only: set[str] | None = None,
        threshold: float | None = None,
        maps: Path | None = None,
    ) -> list[Evaluation]:
        if self._stores is None and recipe.cache_features:
            self._stores = {
                name: feature_store(self.model, tests, self.preprocess, cache=self.settings.cache)
                for name, tests in self.tests.items()
            }
        return evaluate(
            make_detector(self.model, self.preprocess, recipe),
            {name: tests for name, tests in self.tests.items() if only is None or name in only},
            recipe,
            cache=default_cache("images", enabled=self.settings.cache),
            workers=self.settings.workers,
            eval_size=self.settings.eval_size,
            threshold=threshold,
            maps=maps,
            stores=self._stores,
        )


def key_metric(evaluations: Sequence[Evaluation]) -> float | None:
    """What the reference chooses its best checkpoint by: mean pixel AUROC, or image AUROC without pixels."""
    for metric in ("pixel_auroc", "image_auroc"):
        values = [getattr(evaluation, metric) for evaluation in evaluations]
        if values and all(value is not None for value in values):
            return sum(values) / len(values)
    return None
