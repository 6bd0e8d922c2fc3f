"""What every training loop counts: steps, when something is due, and readings until they are written.

    for step in steps(first, total, stop, accelerator, ...):
        batch = step.pace.draw(next, batches)
        readings.add(loss=update(...))
        if step.is_due:
            rows = readings.take(step)
            ...

The body of the loop stays with the paper; nothing here calls it back.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from adcommon.errors import Diverged, Stopped
from adcommon.training.devices import any_process
from adcommon.training.speed import Pace, traced
from adcommon.training.stop import StopSignal
from adcommon.training.trials import CUT_SHORT

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

LOG_EVERY = 25
"""Steps between readings; a reading waits for the device."""
FIRST_ESTIMATE = 20.0
"""Seconds of training after which the log says how long it will take."""
SAID_EVERY = 60.0
"""Seconds between further lines where no terminal shows a bar."""
GRADIENT_NORM = "gradient_norm"
"""The reading that may be infinite: under fp16 such a step is not taken."""


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
    pace: Pace
    """Of the whole loop: what draws batches, and the figures at the last readings."""

    @cached_property
    def stops(self) -> bool:
        """Somebody asked one of the processes to stop; asked once, the same answer in all of them."""
        return self.asked_to_stop()

    @property
    def saves(self) -> bool:
        """The resume state is to be written; after the last step an evaluation may be stopped."""
        return self.saves_state or self.is_last or self.stops

    @property
    def keeps(self) -> bool:
        """What has been learned may be written down here, in one form or another."""
        return self.saves or self.ends_epoch or self.evaluates

    @property
    def is_due(self) -> bool:
        """Readings are to be taken: all processes come together here."""
        return self.keeps or self.logs


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
    minutes: float | None = None,
    trace: Path | None = None,
) -> Iterator[Step]:
    """The steps that are left, each followed by the question whether to stop.

    Several processes ask one another only where readings are taken, which all of them agree on. After the
    last step a signal stops at once whatever is done until the next training, such as the evaluation; not
    where several processes share that.

    Args:
        first: updates done before.
        total: updates in all.
        stop: looked at after every update.
        what: is trained, for the bar and the message.
        save_every: steps between resume states; 0: only at the last, and when asked to stop.
        evaluate_every: steps between evaluations; 0: none.
        log_every: steps between readings.
        ends_epoch: of a step's number: readings are taken there too.
        rests: of a step's number: its state can be saved. Gradients that wait for an update are no part of
            it, and whoever asks for a state or a stop waits for that update too.
        minutes: the step that begins after so many is the last; None: all are done.
        trace: file for a trace of some steps of the first process, see `traced`; None: none is made.

    Raises:
        Stopped: after a step at which somebody asked for it; its state was saved in the loop.
    """
    waiting = stopping = late = False
    began, pace = time.monotonic(), Pace(accelerator)
    stop.in_good_order()

    def every(number: int, count: int) -> bool:
        return count > 0 and number % count == 0

    def asked(votes: bool, resting: bool) -> bool:
        nonlocal stopping
        stopping = stopping or any_process(stop.requested, accelerator, when=votes)
        return stopping and resting

    progress = Progress(what, first, total, minutes)
    bar = tqdm(desc=f"training {what}", initial=first, total=total, unit="step", disable=None)
    with bar, traced(trace if accelerator.is_main_process else None) as begin_in_trace:
        for number in range(first + 1, total + 1):
            logs, ends, resting = every(number, log_every), ends_epoch(number), rests(number)
            waiting = waiting or every(number, save_every)
            ending = number == total or (late and resting)
            step = Step(
                number=number,
                is_last=ending,
                ends_epoch=ends,
                evaluates=every(number, evaluate_every) and not ending,
                logs=logs,
                saves_state=waiting and resting,
                asked_to_stop=partial(asked, logs or ends, resting),
                pace=pace,
            )
            begin_in_trace()
            pace.begin()
            yield step
            bar.update()
            if accelerator.is_main_process:
                progress.say(number)
            if step.stops:
                raise Stopped(
                    f"stopped after step {number} of {what}; run the same command with --resume to go on",
                    stop.number,
                )
            if ending and number < total:
                done = f"{number} of {total} steps were done, the last {number - first}"
                logger.warning("%s is %s: %s in %.1f s", what, CUT_SHORT, done, time.monotonic() - began)
                break
            waiting = waiting and not resting
            if minutes is not None and not late:
                spent = time.monotonic() - began
                late = any_process(spent > 60 * minutes, accelerator, when=logs or ends)
    if accelerator.num_processes == 1:
        stop.at_once(f"stopped after all steps of {what}; run the same command with --resume to go on")


class Progress:
    """Log lines on how far a training is: one early, and where no terminal shows a bar one now and then."""

    def __init__(self, what: str, first: int, total: int, minutes: float | None) -> None:
        """The first step begins now; arguments as of `steps`."""
        self._what, self._first, self._total, self._minutes = what, first, total, minutes
        self._began = time.monotonic()
        self._due = FIRST_ESTIMATE
        self._again = SAID_EVERY if not sys.stderr.isatty() else math.inf

    def say(self, number: int) -> None:
        """After step `number`: a line, if it is time for one; evaluations so far count as the steps do."""
        spent = time.monotonic() - self._began
        if spent < self._due or number >= self._total:
            return
        self._due = spent + self._again
        each = spent / (number - self._first)
        left = each * (self._total - number)
        if self._minutes is not None:
            left = min(left, max(0.0, 60 * self._minutes - spent))
        logger.info(
            "%s step %d of %d, %.2f s a step, about %s left",
            *(self._what, number, self._total, each, in_words(left)),
        )


def in_words(seconds: float) -> str:
    """A duration for people.

    >>> [in_words(seconds) for seconds in (40, 600, 9000)]
    ['40 s', '10 min', '2.5 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Readings:
    """Losses and their like, left on the device until they are taken."""

    def __init__(self, accelerator: "Accelerator", learning: nn.Module) -> None:
        """Nothing was read yet.

        Args:
            learning: what is trained, and saved at steps that are due.
        """
        self._accelerator, self._learning = accelerator, learning
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

    def take(self, step: Step) -> list[dict[str, float]]:
        """The values of the steps since the last call, the mean of all processes; each calls it.

        Raises:
            Diverged: see `refuse_diverged`.
        """
        values = self._accelerator.reduce(torch.stack(self._rows), reduction="mean").tolist()
        step.pace.read()
        self._rows.clear()
        rows = [dict(zip(self._names, row, strict=True)) for row in values]
        refuse_diverged(rows, step, self._learning, self._accelerator)
        return rows


def refuse_diverged(
    rows: Sequence[Mapping[str, float]], step: Step, learning: nn.Module, accelerator: "Accelerator"
) -> None:
    """Stop all processes as soon as a loss of one of them, or a weight that would be kept, is no number.

    Args:
        rows: readings of the steps up to `step`.
        learning: what is trained.

    Raises:
        Diverged: names the first such step; nothing of it was saved.
    """
    bad = [
        (step.number - behind, name, value)
        for behind, row in zip(range(len(rows) - 1, -1, -1), rows, strict=True)
        for name, value in row.items()
        if name != GRADIENT_NORM and not math.isfinite(value)
    ]
    broken = not bad and step.keeps and not _finite(learning)
    if any_process(bool(bad) or broken, accelerator):
        number, name, value = bad[0] if bad else (step.number, "a weight", math.nan)
        raise Diverged(
            f"training stopped: {name} is {value} at step {number}, which is no finite number. Nothing was "
            "saved since; what was saved before is intact.\n"
            "  The usual cause is a learning rate that is too high; others are --precision fp16, and broken "
            "values in images or weights.\n"
            "  Train with a lower rate into another --out, or afresh with --force."
        )


def _finite(learning: nn.Module) -> bool:
    """True if all weights that learn are numbers; the device is waited for once."""
    weights = [weight.detach() for weight in learning.parameters() if weight.requires_grad]
    return bool(torch.stack([weight.isfinite().all() for weight in weights]).all())
