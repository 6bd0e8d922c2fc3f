"""Visual anomaly detection: what all methods share, and the door to it.

    import adcommon as ad

    model = ad.load("runs/x/bottle/model")
    result = model.predict("part.png")
    print(result.score, result.is_anomalous)

Importing the package imports nothing else: a name of the door is looked up when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adcommon import metrics
    from adcommon.data.door import dataset, folder
    from adcommon.deploy.exporting.export import export
    from adcommon.deploy.load import load
    from adcommon.deploy.model import Model
    from adcommon.deploy.result import Result
    from adcommon.errors import UserError
    from adcommon.evaluation.door import evaluate
    from adcommon.types.records import Evaluation, Record, Split

__version__ = "0.1.0"

_DOOR = {
    "load": "adcommon.deploy.load",
    "Model": "adcommon.deploy.model",
    "Result": "adcommon.deploy.result",
    "export": "adcommon.deploy.exporting.export",
    "folder": "adcommon.data.door",
    "dataset": "adcommon.data.door",
    "evaluate": "adcommon.evaluation.door",
    "Evaluation": "adcommon.types.records",
    "Record": "adcommon.types.records",
    "Split": "adcommon.types.records",
    "UserError": "adcommon.errors",
}
"""Name -> the module that has it."""

__all__ = [
    "Evaluation",
    "Model",
    "Record",
    "Result",
    "Split",
    "UserError",
    "dataset",
    "evaluate",
    "export",
    "folder",
    "load",
    "metrics",
]


if not TYPE_CHECKING:  # a type checker sees the imports above, and refuses every other name

    def __getattr__(name: str) -> Any:
        if name == "metrics":
            return import_module("adcommon.metrics")
        if name not in _DOOR:
            raise AttributeError(f"module 'adcommon' has no attribute '{name}'")
        try:
            module = import_module(_DOOR[name])
        except ModuleNotFoundError as error:
            from adcommon.errors import MissingPackage

            raise MissingPackage(
                f"ad.{name} needs {error.name}, not installed here: uv pip install 'adcommon[train]'"
            ) from error
        value = globals()[name] = getattr(module, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
