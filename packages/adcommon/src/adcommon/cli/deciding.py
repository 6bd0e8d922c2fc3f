"""Which model a command decides with, and what computes it: the flags of `predict` and `watch`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from adcommon.errors import BadValue
from adcommon.io.schema import check_fields
from adcommon.types.arithmetic import Precision
from adcommon.types.values import Count, Finite, Positive, Rate, Runtime

if TYPE_CHECKING:
    from adcommon.deploy.model import Model


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Deciding:
    """A model, its threshold, and what computes it."""

    model: Annotated[Path, Parameter(alias="--checkpoint")]
    """The `model` folder that a training run left, a file of `ad export`, or, where a method reads them, a
    checkpoint of its authors."""
    references: Path | None = None
    """Folder of normal images to compare with, or one image; for few-shot methods."""
    tile: Positive | None = None
    """Side of the squares that images and references are cut into, their own pixels; for few-shot methods.
    [default: whole; all other methods: as the model was trained]"""
    overlap: Count | None = None
    """Pixels that neighbouring tiles share at least. [default: an eighth of a tile]"""
    category: str | None = None
    """Which of the categories the model knows; for methods that ask."""
    threshold: Finite | None = None
    """Image score above which an image is anomalous. [default: the one stored in the model]"""
    false_alarm_rate: Rate | None = None
    """Rate at which normal images may be called anomalous: takes the threshold that the model's calibration
    images support for it. [default: the training's]"""
    gpu: str | None = None
    """Number of the GPU, or `cpu`. [default: the first GPU if there is one]"""
    device: str | None = None
    """Device by its torch name: cpu, cuda:1, mps; for a file of `ad export`, if onnxruntime was built for it:
    cuda:1, tensorrt, coreml, directml. [default: of such a file the CPU]"""
    runtime: Runtime | None = None
    """What computes a file of `ad export`; `auto` measures what is installed for a second and takes the
    faster one, if both compute the same. [default: onnxruntime]"""
    threads: Positive | None = None
    """Threads that compute a file of `ad export`. [default: all cores]"""
    precision: Precision | None = None
    """Arithmetic of the networks of a model folder. [default: as it was trained; what `auto` was then is
    chosen anew for this device]"""
    compile: bool = False
    """Let torch.compile make the networks of a model folder faster: minutes before the first image."""

    def __post_init__(self) -> None:
        """Refuse two ways to decide, or two devices."""
        check_fields(self)
        if self.threshold is not None and self.false_alarm_rate is not None:
            raise BadValue("--threshold and --false-alarm-rate both decide; use one of them")
        if self.gpu and self.device:
            raise BadValue("--gpu and --device were both given; use one of them")

    def load(self, method: str | None = None) -> "tuple[Model, str]":
        """The model, and the kind of device that it runs on.

        Args:
            method: refuse models of other methods.
        """
        from adcommon.deploy.load import load

        # Torch's threads that wait for one another spin, long by default, on cores that decode images.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        if self.model.suffix == ".onnx":
            chosen = self.device or (f"cuda:{self.gpu}" if self.gpu and self.gpu != "cpu" else "cpu")
        else:
            from adcommon.models.devices import choose_device

            chosen = str(choose_device(self.gpu, self.device))
        loaded = load(
            self.model,
            category=self.category,
            references=self.references,
            method=method,
            device=chosen,
            tile=self.tile,
            overlap=self.overlap,
            runtime=self.runtime,
            threads=self.threads,
            precision=self.precision,
            compile=self.compile,
        )
        if self.threshold is not None:
            loaded.threshold = self.threshold
        if self.false_alarm_rate is not None:
            loaded.decide_at(self.false_alarm_rate)
        return loaded, chosen.partition(":")[0]
