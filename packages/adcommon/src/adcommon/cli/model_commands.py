"""The commands that are the same for every method: `evaluate` and `predict`."""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from adcommon.training.settings import EvaluateSettings


def predict_app(name: str, method: str | None = None, *, official: bool = False) -> App:
    """The command that scores images with a trained model.

    Args:
        method: refuse models of other methods; None accepts all that are installed.
        official: the method's loader also reads its authors' checkpoints: a file instead of a folder.
    """
    app = App(
        name=name, help="Score images with a trained model: a CSV of scores and decisions, and pictures."
    )

    @app.default
    def command(
        images: Path,
        *,
        model: Annotated[Path, Parameter(alias="--checkpoint")],
        references: Path | None = None,
        category: str | None = None,
        out: Path = Path("predictions"),
        threshold: float | None = None,
        maps: bool = True,
        batch_size: int = 8,
        gpu: str | None = None,
        device: str | None = None,
    ) -> None:
        """Score images with a trained model.

        Args:
            images: An image, or a folder of images at any depth.
            model: The `model` folder that a training run left, a file of `ad export`, or, where a method
                reads them, a checkpoint of its authors.
            references: Folder of normal images to compare with, or one image; for few-shot methods.
            category: Which of the categories the model knows; for methods that ask.
            out: Folder for predictions.csv and the pictures.
            threshold: Image score above which an image is anomalous. [default: the one stored in the model]
            maps: Write a picture of every anomaly map.
            batch_size: Images per batch.
            gpu: Number of the GPU, or `cpu`. [default: the first GPU if there is one]
            device: Device by its torch name: cpu, cuda:1, mps.
        """
        from adcommon.deploy.predict import find_images, predict, summary
        from adcommon.deploy.runtime import load_onnx
        from adcommon.methods import find, load_folder
        from adcommon.models.devices import choose_device
        from adcommon.training.logging import start_logging

        start_logging(None)
        chosen = choose_device(gpu, device)
        normal = [] if references is None else find_images(references)
        if model.suffix == ".onnx":
            detector, stored = load_onnx(model, method)
            threshold = stored if threshold is None else threshold
        elif official and method and model.is_file():
            detector = find(method)(model, category=category, references=normal, device=chosen)
        else:
            detector, config = load_folder(
                model, method=method, category=category, references=normal, device=chosen
            )
            if threshold is None and config.get("threshold"):
                threshold = config["threshold"]["value"]
        rows = predict(detector, images, out, threshold=threshold, batch_size=batch_size, maps=maps)
        print(summary(rows, out))

    return app


def evaluate_app(name: str) -> App:
    """The command that measures a model of any installed method by the standard protocol."""
    app = App(name=name, help="Evaluate a trained model of any method on the test images of a dataset.")

    @app.default
    def command(*, settings: EvaluateSettings) -> None:
        """Evaluate a trained model of any method on the test images of a dataset."""
        from adcommon.data import load_splits
        from adcommon.evaluation.collect import collect_all
        from adcommon.evaluation.maps import write_maps
        from adcommon.evaluation.measure import measure, with_decision
        from adcommon.io.cache import default_cache
        from adcommon.methods import load_folder
        from adcommon.models.devices import choose_device
        from adcommon.results.rows import row, text, write_results
        from adcommon.training.logging import start_logging

        start_logging(None)
        detector, config = load_folder(settings.model, device=choose_device(settings.gpu, settings.device))
        dataset = "folder" if settings.data else settings.dataset or config["dataset"]
        splits = load_splits(dataset, settings.root(), settings.category or config["categories"])
        threshold = config["threshold"] and config["threshold"]["value"]
        began = time.monotonic()
        evaluations = []
        for category, scores in collect_all(
            detector,
            {name: split.test for name, split in splits.items()},
            batch_size=settings.batch_size,
            cache=default_cache("images", enabled=settings.cache),
            workers=settings.workers,
            keep_maps=settings.maps,
        ):
            evaluation = measure(scores, category=category, eval_size=settings.eval_size)
            evaluations.append(
                evaluation if threshold is None else with_decision(evaluation, scores, threshold)
            )
            if settings.maps:
                write_maps(scores, settings.out / "maps" / category, threshold)
        seconds = time.monotonic() - began
        rows = [
            row(
                evaluation,
                method=config["method"],
                dataset=dataset,
                setting=config["setting"],
                backbone=config["backbone"],
                weights=config["weights"],
                seed=config["seed"],
                seconds=seconds,
            )
            for evaluation in evaluations
        ]
        write_results(settings.out, rows)
        print(text(rows))

    return app
