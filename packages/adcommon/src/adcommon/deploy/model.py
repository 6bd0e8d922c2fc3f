"""A trained model for its users: images in; scores, decisions and maps out, in NumPy.

Torch is imported for a model folder only: a file that `ad export` wrote runs without it.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from adcommon.data.cautions import Cautions
from adcommon.data.kind import Kind, unfamiliar
from adcommon.data.leaks import pixel_digest
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.inputs import Decoded, Source, Unreadable, decoded, each, find_images, is_single
from adcommon.deploy.result import Result
from adcommon.errors import BadValue, UserError, WrongCheckpoint
from adcommon.io.schema import build
from adcommon.io.text import printable
from adcommon.types.prediction import ComparesWithReferences, Detector, Prediction
from adcommon.types.threshold import RATE, Threshold, calibrate

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

ScorePixels = Callable[[UInt8[np.ndarray, "batch size size 3"]], Prediction]
"""From pixels, not yet normalised, to a `Prediction` in NumPy: all that a runtime has to offer."""
S = TypeVar("S", bound=Source)


@dataclass(repr=False, eq=False)
class Model:
    """A trained method, bound to all it needs besides the images; `load` makes one."""

    score_pixels: ScorePixels
    preprocess: Preprocess
    """How images are made."""
    config: Mapping[str, Any]
    """All that was stored with the model, "method" at least."""
    threshold: float | None = None
    """Image score above which an image is anomalous; None: none is supported, or known."""
    calibration: Threshold | None = None
    """What the threshold was chosen from, and what it promises; None: from nothing."""
    category: str | None = None
    """That it scores; several, joined by "+", where it was trained on them."""
    detector: Detector | None = None
    """The same in torch, if this is torch's; it can be exported."""
    references: Sequence[Path] = ()
    """Normal images that were given to compare with; none of them can be scored."""
    kinds: Sequence[Kind] = ()
    """What the normal images that it knows look like; none: that is not known, and no image is unfamiliar."""

    def __repr__(self) -> str:
        """Method, category and threshold."""
        return f"Model(method={self.method!r}, category={self.category!r}, threshold={self.threshold})"

    @property
    def method(self) -> str:
        """Name of the method, as `ad methods` lists it."""
        return str(self.config["method"])

    @property
    def promise(self) -> Threshold | None:
        """The calibration, if the threshold is still the one that it supports."""
        own = self.calibration
        return own if own is not None and own.decision is not None and own.value == self.threshold else None

    def decide_at(self, false_alarm_rate: float) -> None:
        """Take the threshold of another false-alarm rate, from the images of the calibration.

        Raises:
            BadValue: these are too few for it, or there are none.
        """
        if self.calibration is None:
            raise BadValue(
                "the model was calibrated on no normal images, and no false-alarm rate of it is known: train "
                "it with --calibration-share, give at least three --references, or --threshold"
            )
        self.calibration = self.calibration.at(false_alarm_rate)
        self.threshold = self.calibration.decision

    @overload
    def predict(self, images: Image.Image | np.ndarray, *, batch_size: int = 16) -> Result: ...
    @overload
    def predict(self, images: list[S] | tuple[S, ...], *, batch_size: int = 16) -> list[Result]: ...
    @overload
    def predict(self, images: str | Path, *, batch_size: int = 16) -> Result | Any: ...
    def predict(self, images: Source | Sequence[Source], *, batch_size: int = 16) -> Result | list[Result]:
        """What the model says of one image, or of several: a folder, at any depth, or a list.

        An image is a path, a Pillow image, or uint8 pixels of shape (height, width, 3), which are RGB, or
        (height, width).

        Raises:
            UserError: the one image cannot be read or scored; of several, its `Result` has an `error`.
        """
        results = list(self.stream(images, batch_size=batch_size))
        if not is_single(images):
            return results
        (result,) = results
        if result.error is not None:
            raise UserError(result.error)
        return result

    def stream(
        self, images: Source | Iterable[Source], *, batch_size: int = 16, workers: int = 2
    ) -> Iterator[Result]:
        """As `predict`, one `Result` after the other in the order of the images, in bounded memory.

        Args:
            images: also an iterator, which is read at most two batches ahead.
            batch_size: images scored at once.
            workers: threads that decode images while the model works; 0 is 1.
        """
        if batch_size < 1:
            raise BadValue(f"batch_size is {batch_size}; expected at least 1")
        return self._results(each(images), batch_size, workers)

    def _results(self, images: Iterable[Source], batch_size: int, workers: int) -> Iterator[Result]:
        known = {pixel_digest(self.preprocess.pixels(path)): path for path in self.references}
        cautions = Cautions(self.preprocess)
        for some in decoded(images, self.preprocess, batch_size, workers):
            batch = [_unless_known(image, known) for image in some]
            for image in batch:
                if isinstance(image, Decoded):
                    for words in cautions.of(image.path, image.pixels, (image.width, image.height)):
                        logger.warning("%s", words)
            scored = self._scored([image for image in batch if isinstance(image, Decoded)])
            for image in batch:
                if isinstance(image, Decoded):
                    yield next(scored)
                else:
                    yield Result(
                        path=image.path,
                        threshold=self.threshold,
                        error=image.error,
                        preprocess=self.preprocess,
                    )

    def _scored(self, images: Sequence[Decoded]) -> Iterator[Result]:
        if not images:
            return
        prediction = self.score_pixels(np.stack([image.pixels for image in images]))
        maps = prediction.anomaly_maps
        for place, (image, score) in enumerate(zip(images, prediction.image_scores.tolist(), strict=True)):
            error = None
            if not math.isfinite(score):
                name = "an image in memory" if image.path is None else printable(image.path)
                error = f"the score of {name} is {score}; the model or its input is broken"
            yield Result(
                path=image.path,
                score=score if error is None else None,
                p_value=None if error or self.calibration is None else self.calibration.p_value(score),
                threshold=self.threshold,
                unfamiliar=unfamiliar(self.kinds, image.appearance),
                error=error,
                network_map=None if maps is None or error else maps[place].copy(),  # not the whole batch's
                preprocess=self.preprocess,
                height=image.height,
                width=image.width,
            )


def load(
    path: str | Path,
    *,
    category: str | None = None,
    references: str | Path | Sequence[str | Path] | None = None,
    method: str | None = None,
    device: "torch.device | str | None" = None,
) -> Model:
    """A trained model of any installed method.

    Args:
        path: the `model` folder that a training left, a file of `ad export` (.onnx), or, with `method`, a
            checkpoint of its authors, where the method reads them.
        category: which of the categories the model knows; for methods that ask.
        references: normal images to compare with, a folder or files; for few-shot methods.
        method: refuse models of other methods.
        device: by its torch name; by default the first GPU if there is one, else the CPU.

    Raises:
        WrongCheckpoint: not a model, a damaged one, or another method's.
        MissingPackage: says how to install what is needed to run it.
        UnknownName: the model's method is not installed.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        return _load_onnx(path, method, references)
    from adcommon.methods import find, load_folder
    from adcommon.models.devices import choose_device

    chosen = choose_device(device=None if device is None else str(device))
    normal = _reference_images(references)
    if method is not None and path.is_file():
        detector = find(method)(path, category=category, references=normal, device=chosen)
        config: dict[str, Any] = {"method": method, "category": category, "threshold": None}
    else:
        detector, config = load_folder(
            path, method=method, category=category, references=normal, device=chosen
        )
    model = from_detector(detector, config, category=category, device=chosen)
    model.references = normal
    if kind := Kind.of([detector.preprocess.read(path)[2] for path in normal]):
        model.kinds = (kind,)
    return model


def from_detector(
    detector: Detector,
    config: Mapping[str, Any],
    *,
    category: str | None = None,
    device: "torch.device | str" = "cpu",
) -> Model:
    """A model of a detector in torch.

    Args:
        config: of its model folder: method, category, threshold.
        category: that it scores, where the config says several.
        device: where it is.
    """
    import torch

    from adcommon.data.normalise import normalise

    def score_pixels(pixels: UInt8[np.ndarray, "batch size size 3"]) -> Prediction:
        images = normalise(torch.from_numpy(pixels).to(device), detector.preprocess)
        with torch.inference_mode():
            prediction = detector.score(images)
        maps = prediction.anomaly_maps
        return Prediction(
            prediction.image_scores.float().cpu().numpy(),
            None if maps is None else maps.float().cpu().numpy(),
        )

    stored = config["threshold"]
    calibration = None if stored is None else build(Threshold, stored, "the model's threshold")
    if isinstance(detector, ComparesWithReferences):
        with torch.inference_mode():
            left_out = detector.left_out()
        scores = left_out.image_scores.tolist()
        calibration = calibrate(scores, RATE, "references", left_out.peaks) if scores else None
    return Model(
        score_pixels,
        detector.preprocess,
        config,
        threshold=None if calibration is None else calibration.decision,
        calibration=calibration,
        category=category or config["category"],
        detector=detector,
        kinds=tuple(build(Kind, kind, "the model's kinds") for kind in config.get("kinds", ())),
    )


def _load_onnx(path: Path, method: str | None, references: object) -> Model:
    from adcommon.deploy.runtime import OnnxDetector

    exported = OnnxDetector(path)
    facts = exported.facts
    if method not in (None, facts.method):
        raise WrongCheckpoint(f"{path} holds a model of {facts.method}, not of {method}")
    if references is not None:
        raise BadValue(f"{path} was exported with its reference images; export it again with others")
    return Model(
        exported.score_pixels,
        exported.preprocess,
        asdict(facts),
        threshold=facts.threshold,
        calibration=facts.calibration,
        category=facts.category,
        kinds=facts.kinds,
    )


def _unless_known(image: Decoded | Unreadable, known: Mapping[bytes, Path]) -> Decoded | Unreadable:
    """An image, or why it cannot be scored: it is a reference, whatever its file."""
    if isinstance(image, Unreadable) or not known or (same := known.get(pixel_digest(image.pixels))) is None:
        return image
    name = "the image" if image.path is None else printable(image.path)
    return Unreadable(image.path, f"{name} is the reference {printable(same)}: compared with itself")


def _reference_images(references: str | Path | Sequence[str | Path] | None) -> list[Path]:
    if references is None:
        return []
    given = [references] if isinstance(references, str | Path) else references
    return [image for path in given for image in find_images(Path(path))]
