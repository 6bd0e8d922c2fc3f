"""A trained model for its users: images in; scores, decisions and maps out, in NumPy. No torch."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from adcommon.data.cautions import Cautions
from adcommon.data.kind import Kind, unfamiliar
from adcommon.data.leaks import pixel_digest
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.inputs import Decoded, Source, Unreadable, decoded, each, is_single
from adcommon.deploy.result import Result
from adcommon.deploy.streams import in_streams
from adcommon.errors import BadValue, UserError
from adcommon.io.text import printable
from adcommon.types.prediction import Detector, Prediction
from adcommon.types.threshold import Threshold

logger = logging.getLogger(__name__)

ScorePixels = Callable[[UInt8[np.ndarray, "batch size size 3"]], Prediction]
"""From pixels, not yet normalised, to a `Prediction` in NumPy: all that a runtime has to offer."""
S = TypeVar("S", bound=Source)


@dataclass(repr=False, eq=False)
class Model:
    """A trained method, bound to all it needs besides the images; `deploy.load` makes one."""

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
    runtime: str = "torch"
    """What computes it: torch, onnxruntime or openvino."""
    streams: int = 1
    """Batches of a stream that are scored at once, see `deploy.streams`."""

    def __post_init__(self) -> None:
        """Remember the threshold that it came with, and later what was said of images."""
        self._own_threshold = self.threshold
        self._cautions = Cautions(self.preprocess)

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

    @property
    def threshold_is_own(self) -> bool:
        """False if the threshold was set by hand."""
        return self.promise is not None or self.threshold == self._own_threshold

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
        self.threshold = self._own_threshold = self.calibration.decision

    @overload
    def predict(self, images: bytes | Image.Image | np.ndarray, *, batch_size: int = 16) -> Result: ...
    @overload
    def predict(self, images: list[S] | tuple[S, ...], *, batch_size: int = 16) -> list[Result]: ...
    @overload
    def predict(self, images: str | Path, *, batch_size: int = 16) -> Result | Any: ...
    def predict(self, images: Source | Sequence[Source], *, batch_size: int = 16) -> Result | list[Result]:
        """What the model says of one image, or of several: a folder, at any depth, or a list.

        An image is a path, the bytes of a file, a Pillow image, or uint8 pixels of shape (height, width, 3),
        which are RGB, or (height, width).

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
        self,
        images: Source | Iterable[Source],
        *,
        batch_size: int = 16,
        workers: int = 2,
        view: int | None = None,
    ) -> Iterator[Result]:
        """As `predict`, one `Result` after the other in the order of the images, in bounded memory.

        Args:
            images: also an iterator, which is read at most two batches ahead, and one more for each further
                batch that is scored at once.
            batch_size: images of a batch, or tiles of one image.
            workers: threads that decode images while the model works; 0 is 1.
            view: longest side of a view of the image that results keep for pictures, pixels; None: none is.
        """
        if batch_size < 1:
            raise BadValue(f"batch_size is {batch_size}; expected at least 1")
        streams = 1 if is_single(images) else self.streams
        return self._results(each(images), batch_size, workers, view, streams)

    def _results(
        self, images: Iterable[Source], batch_size: int, workers: int, view: int | None, streams: int
    ) -> Iterator[Result]:
        together = batch_size if self.preprocess.tile is None else 1
        ahead = 2 if streams == 1 else 1
        batches = self._warned(decoded(images, self.preprocess, together, workers, ahead=ahead, view=view))

        def judged(batch: Sequence[Decoded | Unreadable]) -> list[Result]:
            return list(self.judge(batch, batch_size=batch_size))

        for results in map(judged, batches) if streams == 1 else in_streams(judged, batches, streams):
            yield from results

    def _warned(
        self, batches: Iterable[Sequence[Decoded | Unreadable]]
    ) -> Iterator[Sequence[Decoded | Unreadable]]:
        """The batches, after what is to be said of their images."""
        for batch in batches:
            for image in batch:
                if isinstance(image, Decoded):
                    for words in self._cautions.of(image.path, image.pixels, (image.width, image.height)):
                        logger.warning("%s", words)
            yield batch

    def judge(self, images: Sequence[Decoded | Unreadable], *, batch_size: int = 16) -> Iterator[Result]:
        """The same of images that `inputs.decode` has decoded for this model, in their order."""
        checked = [_unless_known(image, self._known) for image in images]
        scored = self._scored([image for image in checked if isinstance(image, Decoded)], batch_size)
        for image in checked:
            if isinstance(image, Decoded):
                yield next(scored)
            else:
                yield Result(
                    path=image.path,
                    threshold=self.threshold,
                    error=image.error,
                    preprocess=self.preprocess,
                )

    @cached_property
    def _known(self) -> dict[bytes, Path]:
        """The references, by their pixels."""
        return {pixel_digest(self.preprocess.read(path)[0]): path for path in self.references}

    def _scored(self, images: Sequence[Decoded], batch_size: int) -> Iterator[Result]:
        if not images:
            return
        pixels = np.concatenate([image.pixels for image in images])
        parts = [
            self.score_pixels(pixels[first : first + batch_size])
            for first in range(0, len(pixels), batch_size)
        ]
        scores = np.concatenate([part.image_scores for part in parts])
        maps = [part.anomaly_maps for part in parts if part.anomaly_maps is not None]
        all_maps = np.concatenate(maps) if maps else None
        first = 0
        for image in images:
            own = slice(first, first := first + len(image.pixels))
            joined = None
            if all_maps is not None:
                joined = self.preprocess.join(
                    all_maps[own], image.width, image.height
                ).copy()  # not all of them
            yield self._result(image, float(scores[own].max()), joined)

    def _result(
        self, image: Decoded, score: float, anomaly_map: Float[np.ndarray, "map_height map_width"] | None
    ) -> Result:
        error = None
        if not math.isfinite(score):
            name = "an image in memory" if image.path is None else printable(image.path)
            error = f"the score of {name} is {score}; the model or its input is broken"
        return Result(
            path=image.path,
            score=score if error is None else None,
            p_value=None if error or self.calibration is None else self.calibration.p_value(score),
            threshold=self.threshold,
            unfamiliar=unfamiliar(self.kinds, image.appearance),
            error=error,
            network_map=None if error else anomaly_map,
            preprocess=self.preprocess,
            height=image.height,
            width=image.width,
            view=image.view,
        )


def _unless_known(image: Decoded | Unreadable, known: Mapping[bytes, Path]) -> Decoded | Unreadable:
    """An image, or why it cannot be scored: it is a reference, whatever its file."""
    if isinstance(image, Unreadable) or not known or (same := known.get(pixel_digest(image.pixels))) is None:
        return image
    name = "the image" if image.path is None else printable(image.path)
    return Unreadable(image.path, f"{name} is the reference {printable(same)}: compared with itself")
