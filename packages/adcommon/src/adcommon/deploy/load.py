"""A trained model, ready to predict: from its folder, an exported file, or a detector in torch.

Torch is imported for a model folder only: a file that `ad export` wrote runs without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from adcommon.data.kind import Kind
from adcommon.deploy.inputs import find_images
from adcommon.deploy.model import Model
from adcommon.deploy.streams import MOST
from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.io.schema import build
from adcommon.types.arithmetic import Precision
from adcommon.types.prediction import ComparesWithReferences, Detector, Prediction
from adcommon.types.threshold import RATE, Threshold, calibrate
from adcommon.types.values import Runtime

if TYPE_CHECKING:
    import torch

    from adcommon.deploy.runtime import OnnxDetector


def load(
    path: str | Path,
    *,
    category: str | None = None,
    references: str | Path | Sequence[str | Path] | None = None,
    method: str | None = None,
    device: "torch.device | str | None" = None,
    tile: int | None = None,
    overlap: int | None = None,
    runtime: Runtime | None = None,
    threads: int | None = None,
    options: Mapping[str, str] | None = None,
    precision: Precision | None = None,
    compile: bool = False,
) -> Model:
    """A trained model of any installed method.

    Args:
        path: the `model` folder that a training left, a file of `ad export` (.onnx), or, with `method`, a
            checkpoint of its authors, where the method reads them.
        category: which of the categories the model knows; for methods that ask.
        references: normal images to compare with, a folder or files; for few-shot methods.
        method: refuse models of other methods.
        device: by its torch name; by default the first GPU if there is one, else the CPU. An exported file
            runs on the CPU by default, and where its onnxruntime can on cuda, tensorrt, coreml or directml.
        tile: side of the squares that images and references are cut into, pixels, for few-shot methods; all
            others cut images as they were trained.
        overlap: pixels that neighbouring tiles share at least; by default an eighth of a tile.
        runtime: what computes an exported file: onnxruntime, the default, or openvino; "auto" measures those
            that are installed for a second and takes the faster one, if both compute the same.
        threads: of the CPU for an exported file; by default all cores.
        options: for the runtime of an exported file, by its own names: properties of OpenVINO, such as
            {"PERFORMANCE_HINT": "THROUGHPUT"}, or options of onnxruntime's provider for the device.
        precision: arithmetic of the networks, of a model folder; by default as it was trained. Where it is
            another than its threshold was chosen with, that is logged.
        compile: let torch.compile make the networks of a model folder faster: minutes at the first batch.

    Raises:
        WrongCheckpoint: not a model, a damaged one, or another method's.
        MissingPackage: says how to install what is needed to run it.
        UnknownName: the model's method is not installed.
    """
    path = Path(path)
    if (tile, overlap) != (None, None) and path.is_file():
        raise BadValue(
            f"{path} looks at images as it was written; tiles are for the model folder of a training"
        )
    if path.suffix == ".onnx":
        if precision is not None or compile:
            raise BadValue(
                f"{path} computes as it was written; --precision and --compile are for the model folder of a "
                "training"
            )
        from adcommon.deploy.runtime import OnnxDetector

        exported = OnnxDetector(
            path,
            runtime=runtime or "onnxruntime",
            device=str(device or "cpu"),
            threads=threads,
            options=options,
        )
        return _of_exported(exported, path, method, references)
    if (runtime, threads, options) != (None, None, None):
        raise BadValue(
            f"{path} is not an exported file, and torch computes it; runtime, threads and options are for a "
            "file of `ad export`"
        )
    from adcommon.methods import find, load_folder
    from adcommon.models.compute import ask, say_other_precision
    from adcommon.models.devices import choose_device

    chosen = choose_device(device=None if device is None else str(device))
    normal = _reference_images(references)
    if method is not None and path.is_file():
        detector = find(method)(path, category=category, references=normal, device=chosen)
        config: dict[str, Any] = {"method": method, "category": category, "threshold": None}
    else:
        detector, config = load_folder(
            path,
            method=method,
            category=category,
            references=normal,
            device=chosen,
            tile=tile,
            overlap=overlap,
        )
    ask(detector, precision, compiles=compile)
    if not isinstance(detector, ComparesWithReferences):  # whose threshold is chosen here, in this precision
        say_other_precision(config, detector)
    model = from_detector(detector, config, category=category, device=chosen)
    model.references = normal
    if kind := Kind.of([detector.preprocess.appearance(path) for path in normal]):
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
        streams=min(MOST, torch.get_num_threads()) if torch.device(device).type == "cpu" else 1,
        kinds=tuple(build(Kind, kind, "the model's kinds") for kind in config.get("kinds", ())),
    )


def _of_exported(exported: "OnnxDetector", path: Path, method: str | None, references: object) -> Model:
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
        runtime=exported.runtime,
    )


def _reference_images(references: str | Path | Sequence[str | Path] | None) -> list[Path]:
    if references is None:
        return []
    given = [references] if isinstance(references, str | Path) else references
    return [image for path in given for image in find_images(Path(path))]
