"""What is answered about an image: JSON, and the picture of its map."""

import base64
from dataclasses import asdict
from typing import Literal, get_args

from adcommon.deploy.model import Model
from adcommon.deploy.regions import regions
from adcommon.deploy.result import Result
from adcommon.results.drawing import draw
from adcommon.results.pictures import png, webp

LONGEST_SIDE = 1024
"""Of a picture, pixels; larger images are drawn smaller."""
Picture = Literal["png", "webp"]
PICTURES: tuple[Picture, ...] = get_args(Picture)


def answer(
    result: Result, name: str | None, content: bytes, model: Model, picture: Picture | None
) -> dict[str, object]:
    """Score, decision, its reason, and the places where the map is higher than of hardly any good image.

    Args:
        name: the client's, of the image; it is given back and nothing else.
        content: of the image's file.
        picture: of the map, to be put in as a data URL; None: none is wanted.
    """
    found = None
    level = None if model.calibration is None else model.calibration.colours
    if result.network_map is not None and level is not None:
        found = []
        if result.network_map.max() > level[1]:  # the map at the image's own size is nowhere higher
            anomaly_map = result.anomaly_map
            assert anomaly_map is not None
            found = [asdict(region) for region in regions(anomaly_map, level[1])]
    said: dict[str, object] = {
        "name": name,
        "score": result.score,
        "p_value": result.p_value,
        "threshold": result.threshold,
        "decision": result.decision,
        "unfamiliar": result.unfamiliar,
        "error": result.error,
        "width": result.width,
        "height": result.height,
        "level": None if level is None else level[1],
        "regions": found,
    }
    if picture is not None:
        image = drawn(result, content, model, picture)
        encoded = None if image is None else base64.b64encode(image).decode("ascii")
        said["map"] = None if encoded is None else f"data:image/{picture};base64,{encoded}"
    return said


def drawn(result: Result, content: bytes, model: Model, kind: Picture) -> bytes | None:
    """The map over its image, as `ad predict` draws it; None: there is none."""
    if result.network_map is None:
        return None
    colours = None if model.calibration is None else model.calibration.colours
    _, picture = draw(content, result.network_map, result.preprocess, colours, longest_side=LONGEST_SIDE)
    return png(picture) if kind == "png" else webp(picture)
