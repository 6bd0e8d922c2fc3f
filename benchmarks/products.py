"""How much of a piece of work is convolutions and products of matrices, and how fast these run."""

import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

PRODUCTS = (
    "aten::_slow_conv",
    "aten::mkldnn_conv",
    "aten::_conv",
    "aten::convolution_b",
    "mkldnn::",
    "mm",
    "attention",
)
"""In the names of convolutions and matrix products, in the profiler."""
SIDE = 2048
"""Of the matrices whose product shows the core's peak."""


def explain(call: Callable[[], object], operations: float) -> None:
    """Print how much of a call is convolutions and products, and how fast they run beside a large product."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    took = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    products = sum(took[name] for name in took if any(word in name for word in PRODUCTS))
    share = products / sum(took.values())
    square = torch.randn(SIDE, SIDE)
    peak = 2 * SIDE**3 / best(lambda: square @ square)
    speed = operations / (share * best(call))
    print(
        f"  ours: {operations / 1e9:.1f} G operations; {100 * share:.0f} % of the time in convolutions and "
        f"products, at {speed / 1e9:.0f} G a second, where one of {SIDE}x{SIDE} has {peak / 1e9:.0f}"
    )


def best(call: Callable[[], object]) -> float:
    """Seconds of CPU time, of three calls."""
    seconds = []
    for _ in range(3):
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
    return min(seconds)


def operations_of(*calls: Callable[[], object]) -> float:
    """Multiplications and additions in convolutions and products, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter:
        for call in calls:
            call()
    return counter.get_total_flops()
