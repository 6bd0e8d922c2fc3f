"""Nearest patches and coresets of the memory methods, against plain ways to have them.

uv run python benchmarks/bench_neighbours.py --patches 100000 --channels 384
"""

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from adcommon.models.neighbours import nearest_distances
from baselines.patchcore.coreset import coreset


def clustered(count: int, channels: int, generator: Generator) -> Tensor:
    """Patches like a network's: 200 kinds, each with 32 directions."""
    kinds = torch.randn(200, channels, generator=generator)
    directions = torch.randn(32, channels, generator=generator) / 6
    kind = torch.randint(200, (count,), generator=generator)
    return kinds[kind] + torch.randn(count, 32, generator=generator) @ directions


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def pair(name: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], rounds: int) -> None:
    """Both in turn; the ratio of their medians, and the largest difference of what they give."""
    times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    mine, other = (sorted(column)[rounds // 2] for column in zip(*times, strict=True))
    difference = float((ours() - theirs()).abs().max())
    print(f"{name}: {mine:.3f} s against {other:.3f} s, {other / mine:.1f} times; differ by {difference:.1e}")


def rowwise(patches: Tensor, count: int, start: Tensor) -> Tensor:
    """The greedy cover as it is usually written: rows, one full distance computation a step."""
    chosen = [int(start)]
    gaps = torch.full((len(patches),), torch.inf)
    for _ in range(1, count):
        gaps = torch.minimum(gaps, (patches - patches[chosen[-1]]).square().sum(dim=1))
        chosen.append(int(gaps.argmax()))
    return torch.tensor(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--queries", type=int, default=784, help="patches of one image")
    parser.add_argument("--chosen", type=int, default=1000, help="of the coreset that both ways choose")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    generator = Generator().manual_seed(0)
    bank = clustered(options.patches, options.channels, generator)
    queries = clustered(options.queries, options.channels, generator)
    size = f"{options.patches} x {options.channels}"
    pair(
        f"distances of {options.queries} patches to the nearest of {size}, against torch.cdist",
        lambda: nearest_distances(queries, bank)[0][:, 0],
        lambda: torch.cdist(queries, bank).amin(dim=1),
        options.rounds,
    )
    start = coreset(bank, 1, Generator().manual_seed(1))
    pair(
        f"coreset of {options.chosen} of {size}, exact, against rows",
        lambda: coreset(bank, options.chosen, Generator().manual_seed(1)),
        lambda: rowwise(bank, options.chosen, start),
        1,
    )
    for projection in (128, 64):
        project = partial(coreset, projection=projection)
        took = seconds(lambda: project(bank, options.chosen, Generator().manual_seed(1)))  # noqa: B023
        print(f"the same projected to {projection}: {took:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"largest memory of the process, cdist included: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
