"""What every training loop counts: steps, when something is due, and readings until they are written.

    for step in steps(first, total, stop, accelerator, ...):
        readings.add(loss=update(...))
        if step.is_due:
            rows = readings.take()
            ...

The body of the loop stays with the paper; nothing here calls it back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from adcommon.errors import Stopped
from adcommon.training.devices import any_process
from adcommon.training.stop import StopSignal

if TYPE_CHECKING:
    from accelerate import Accelerator

LOG_EVERY = 25
"""Steps between readings; a reading waits for the device."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step, and what is due once its update is done."""

    number: int
    """Updates done after this step, from 1."""
    is_last: bool
    ends_epoch: bool
    evaluates: bool
    """An evaluation in the middle of the training is due; the one at its end is not counted."""
    logs: bool
    saves_state: bool
    asked_to_stop: Callable[[], bool]

    @cached_property
    def stops(self) -> bool:
        """Somebody asked one of the processes to stop; asked once, the same answer in all of them."""
        return self.asked_to_stop()

    @property
    def saves(self) -> bool:
        """The resume state is to be written."""
        return self.saves_state or self.stops

    @property
    def is_due(self) -> bool:
        """Readings are to be taken: all processes come together here."""
        return self.saves or self.logs or self.ends_epoch or self.evaluates or self.is_last


def steps(
    first: int,
    total: int,
    stop: StopSignal,
    accelerator: "Accelerator",
    *,
    what: str,
    save_every: int = 0,
    evaluate_every: int = 0,
    log_every: int = LOG_EVERY,
    ends_epoch: Callable[[int], bool] = lambda number: False,
    rests: Callable[[int], bool] = lambda number: True,
) -> Iterator[Step]:
    """The steps that are left, each followed by the question whether to stop.

    Several processes ask one another only where readings are taken, which all of them agree on.

    Args:
        first: updates done before.
        total: updates in all.
        stop: looked at after every update.
        what: is trained, for the bar and the message.
        save_every: steps between resume states; 0: only when asked to stop.
        evaluate_every: steps between evaluations; 0: none.
        log_every: steps between readings.
        ends_epoch: of a step's number: readings are taken there too.
        rests: of a step's number: its state can be saved. Gradients that wait for an update are no part of
            it, and whoever asks for a state or a stop waits for that update too.

    Raises:
        Stopped: after a step at which somebody asked for it; its state was saved in the loop.
    """
    waiting = stopping = False

    def every(number: int, count: int) -> bool:
        return count > 0 and number % count == 0

    def asked(votes: bool, resting: bool) -> bool:
        nonlocal stopping
        stopping = stopping or any_process(stop.requested, accelerator, when=votes)
        return stopping and resting

    with tqdm(desc=f"training {what}", initial=first, total=total, unit="step", disable=None) as bar:
        for number in range(first + 1, total + 1):
            logs, ends, resting = every(number, log_every), ends_epoch(number), rests(number)
            waiting = waiting or every(number, save_every)
            step = Step(
                number=number,
                is_last=number == total,
                ends_epoch=ends,
                evaluates=every(number, evaluate_every) and number < total,
                logs=logs,
                saves_state=waiting and resting,
                asked_to_stop=partial(asked, logs or ends, resting),
            )
            yield step
            bar.update()
            if step.stops:
                raise Stopped(
                    f"stopped after step {number} of {what}; run the same command with --resume to go on"
                )
            waiting = waiting and not resting


class Readings:
    """Losses and their like, left on the device until they are taken."""

    def __init__(self, accelerator: "Accelerator") -> None:
        """Nothing was read yet."""
        self._accelerator = accelerator
        self._names: tuple[str, ...] = ()
        self._rows: list[Float[Tensor, " names"]] = []

    def add(self, **values: Float[Tensor, ""] | float) -> None:
        """One step's values, the same names at every step."""
        first = next(value for value in values.values() if isinstance(value, Tensor))
        self._names = tuple(values)
        self._rows.append(
            torch.stack(
                [
                    value if isinstance(value, Tensor) else torch.full_like(first, float(value))
                    for value in values.values()
                ]
            )
        )

    def take(self) -> list[dict[str, float]]:
        """The values of the steps since the last call, the mean of all processes; each calls it."""
        rows = self._accelerator.reduce(torch.stack(self._rows), reduction="mean").tolist()
        self._rows.clear()
        return [dict(zip(self._names, row, strict=True)) for row in rows]
