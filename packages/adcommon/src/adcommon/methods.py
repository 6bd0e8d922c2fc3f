"""The installed methods, found through the entry-point group `adcommon.methods`.

A method registers `<method>.detector:load_detector`, called as
`load_detector(folder, category=None, references=(), device="cpu")`; nothing here imports a method by name.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from adcommon.errors import unknown_name


def installed(group: str = "adcommon.methods") -> dict[str, EntryPoint]:
    """Entry points of a group by method name, sorted; nothing is imported."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def find(method: str, group: str = "adcommon.methods") -> Callable:
    """The function a method registered in a group.

    Raises:
        UnknownName: no installed package registers this method; the message lists those that do.
    """
    points = installed(group)
    if method not in points:
        raise unknown_name("method", method, points)
    return points[method].load()
