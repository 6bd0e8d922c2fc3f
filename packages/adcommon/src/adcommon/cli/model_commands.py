"""The command that is the same for every method: `predict`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from adcommon.types.values import Finite, Positive, Workers


def predict_app(name: str, method: str | None = None) -> App:
    """The command that scores images with a trained model.

    Args:
        method: refuse models of other methods; None accepts all that are installed.
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
        threshold: Finite | None = None,
        maps: bool = True,
        batch_size: Positive = 8,
        workers: Workers = 2,
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
            workers: Threads that decode images, and as many that draw pictures.
            gpu: Number of the GPU, or `cpu`. [default: the first GPU if there is one]
            device: Device by its torch name: cpu, cuda:1, mps.
        """
        from adcommon.deploy.model import load
        from adcommon.deploy.predict import predict, summary
        from adcommon.training.logging import start_logging

        start_logging(None)
        chosen = None
        if model.suffix != ".onnx":
            from adcommon.models.devices import choose_device

            chosen = choose_device(gpu, device)
        loaded = load(model, category=category, references=references, method=method, device=chosen)
        if threshold is not None:
            loaded.threshold = threshold
        rows = predict(loaded, images, out, batch_size=batch_size, workers=workers, maps=maps)
        print(summary(rows, out))

    return app
