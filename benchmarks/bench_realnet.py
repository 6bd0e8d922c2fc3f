"""RealNet: synthetic anomalies, ours by the batch against the reference's one by one, in one run.

The reference-style Perlin mask lays gradients out over all pixels with NumPy, and turns the noise with
OpenCV where that is at hand (uv run --with opencv-python-headless), else with SciPy. The reference-style
item reads and resizes its 900x900 image, finds the foreground, makes a mask, reads and resizes a source, and
blends whole images in float64, every time; ours keeps decoded images and foregrounds. The changes of textures
are ours in both. That numbers are equal is shown for masks here, for items by the golden tests.

    python benchmarks/bench_realnet.py [--parts perlin items] [--size 256] [--batch 16] [--rounds 7]
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from adcommon.data.loading import AnomalyDataset
from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.types.records import Record
from realnet.synthesis.data import TrainingItems
from realnet.synthesis.foreground import ForegroundRule, rule_for
from realnet.synthesis.opencv import resize
from realnet.synthesis.perlin import MAX_TURN, THRESHOLD, PerlinScales, perlin_masks, perlin_noise
from realnet.synthesis.sources import ImageSource
from realnet.synthesis.texture_augment import augment

try:
    import cv2
except ImportError:
    cv2 = None

SIDE = 900
TEXTURE_SIZE = (480, 640)
IMAGES = 32
SOURCES = 64


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def compare(
    name: str, reference: Callable[[], object], ours: Callable[[], object], rounds: int, count: int
) -> None:
    """Run both in turns and print milliseconds per image, and the ratio of each round.

    Of one thread it is CPU time, which other work on the machine disturbs least.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        took = []
        for call in (reference, ours):
            began = clock()
            call()
            took.append((clock() - began) / count)
        seconds.append((took[0], took[1]))
    slow, fast = ([1000 * pair[way] for pair in seconds[1:]] for way in (0, 1))
    ratios = sorted(a / b for a, b in seconds[1:])
    print(
        f"{name}: reference-style {middle(slow):.2f} ms, ours {middle(fast):.2f} ms per image, "
        f"ratio {middle(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
        f"of the best {min(slow) / min(fast):.2f}"
    )


def reference_noise(grid: np.ndarray, size: int) -> np.ndarray:
    """One image's noise: every corner's gradient repeated over the pixels of its cells, then interpolated."""
    cells = (grid.shape[0] - 1, grid.shape[1] - 1)
    local = np.stack(np.meshgrid(*(np.arange(size) * n / size % 1 for n in cells), indexing="ij"), axis=-1)
    angles = 2 * math.pi * grid
    gradients = np.stack([np.cos(angles), np.sin(angles)], axis=-1)

    def corner(down: int, right: int) -> np.ndarray:
        own = gradients[down : cells[0] + down, right : cells[1] + right]
        spread = own.repeat(size // cells[0], axis=0).repeat(size // cells[1], axis=1)
        return ((local - (down, right)) * spread).sum(axis=-1)

    fade = 6 * local**5 - 15 * local**4 + 10 * local**3
    left = corner(0, 0) + fade[..., 0] * (corner(1, 0) - corner(0, 0))
    right = corner(0, 1) + fade[..., 0] * (corner(1, 1) - corner(0, 1))
    return math.sqrt(2) * (left + fade[..., 1] * (right - left))


def reference_turn(noise: np.ndarray, degrees: float) -> np.ndarray:
    centre = (noise.shape[0] - 1) / 2
    if cv2 is not None:
        matrix = cv2.getRotationMatrix2D((centre, centre), -degrees, 1)
        return cv2.warpAffine(noise, matrix, noise.shape, flags=cv2.INTER_LINEAR)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    return ndimage.affine_transform(noise, matrix, centre - matrix @ (centre, centre), order=1)


def perlin(options: argparse.Namespace) -> None:
    generator = np.random.default_rng(0)
    size, count = options.size, options.batch
    exponents = generator.integers(0, PerlinScales().below, (count, 2)).tolist()
    grids = [generator.random((2**rows + 1, 2**columns + 1)) for rows, columns in exponents]
    degrees = generator.uniform(-MAX_TURN, MAX_TURN, count)

    cases = [(grid, size, turn) for grid, turn in zip(grids, degrees, strict=True)]

    noise, masks = perlin_noise(grids, (size, size)), perlin_masks(grids, degrees, (size, size))
    one_by_one = np.stack([reference_noise(grid, size) for grid in grids])
    others = np.stack(
        [reference_turn(own, turn) > THRESHOLD for own, turn in zip(one_by_one, degrees, strict=True)]
    )
    library = "SciPy, exactly bilinear" if cv2 is None else f"OpenCV {cv2.__version__}"
    print(
        f"noise differs by {abs(noise - one_by_one).max():.0e} at most; of {masks.size} pixels of masks "
        f"{np.count_nonzero(masks != others)} differ (turned by {library})"
    )
    ways = {
        "Perlin noise": (
            lambda: [reference_noise(grid, size) for grid in grids],
            lambda: perlin_noise(grids, (size, size)),
        ),
        "Perlin masks": (
            lambda: [reference_turn(reference_noise(*pair), turn) > THRESHOLD for *pair, turn in cases],
            lambda: perlin_masks(grids, degrees, (size, size)),
        ),
    }
    for name, (reference, ours) in ways.items():
        compare(name, reference, ours, options.rounds, count)


def draw(folder: Path, count: int, size: tuple[int, int], suffix: str) -> list[Path]:
    """Soft shapes under a camera's noise, which compress about as well as photographs."""
    generator, files = np.random.default_rng(0), []
    for number in range(count):
        shapes = Image.fromarray(generator.integers(40, 216, (12, 12, 3), dtype=np.uint8))
        soft = np.asarray(shapes.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = (soft + generator.normal(0, 2, soft.shape)).clip(0, 255).astype(np.uint8)
        files.append(folder / f"{suffix}{number:03}.{suffix}")
        Image.fromarray(noisy).save(files[-1])
    return files


class ReferenceItems:
    """One training item at a time, as the reference's dataset makes them, from the files on disk."""

    def __init__(
        self,
        files: list[Path],
        sources: list[Path],
        opacity: tuple[float, float],
        rule: ForegroundRule,
        preprocess: Preprocess,
        *,
        textures: bool,
    ) -> None:
        self.files, self.sources, self.opacity, self.rule = files, sources, opacity, rule
        self.preprocess, self.textures = preprocess, textures
        self.generator = np.random.default_rng(0)

    def item(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator, size = self.generator, self.preprocess.size
        image = self.preprocess.pixels(self.files[index])
        clean = normalise(image[None], self.preprocess)[0]
        if generator.random() < 0.5:
            return clean, clean, torch.zeros(size, size)
        foreground = self.rule(image[None])[0]
        rows, columns = generator.integers(0, PerlinScales().below, 2).tolist()
        noise = reference_noise(generator.random((2**rows + 1, 2**columns + 1)), size)
        noise = reference_turn(noise, generator.uniform(-MAX_TURN, MAX_TURN))
        mask = (noise > THRESHOLD).astype(np.float64) * foreground
        file = self.sources[int(generator.integers(len(self.sources)))]
        with Image.open(file) as opened:
            source = np.asarray(opened.convert("RGB"))
        source = resize(source, (size, size)) if cv2 is None else cv2.resize(source, (size, size))
        if self.textures:
            source = augment(source, generator)
        beta, where = generator.uniform(*self.opacity), mask[..., None]
        blended = (1 - where) * image + (1 - beta) * where * image + beta * where * source
        return (
            clean,
            normalise(blended.astype(np.uint8)[None], self.preprocess)[0],
            torch.from_numpy(mask).float(),
        )

    def batch(self, indices: list[int]) -> list[torch.Tensor]:
        return [torch.stack(parts) for parts in zip(*map(self.item, indices), strict=True)]


def items(options: argparse.Namespace) -> None:
    preprocess = Preprocess(image_size=options.size)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = draw(folder, IMAGES, (SIDE, SIDE), "png")
        (folder / "sdas").mkdir()
        (folder / "dtd").mkdir()
        kinds = {
            "sdas": (draw(folder / "sdas", SOURCES, (256, 256), "jpg"), (0.5, 1.0), ("mvtec", "bottle")),
            "dtd": (draw(folder / "dtd", SOURCES, TEXTURE_SIZE, "jpg"), (0.2, 1.0), ("mvtec", "carpet")),
        }
        for kind, (sources, opacity, category) in kinds.items():
            rule, textures = rule_for(*category), kind == "dtd"
            reference = ReferenceItems(files, sources, opacity, rule, preprocess, textures=textures)
            dataset = AnomalyDataset([Record(file, category[1], label=0) for file in files], preprocess)
            ours = TrainingItems(
                dataset=dataset,
                sources={kind: ImageSource(sources, change=augment if textures else None)},
                shares={"normal": 0.5, kind: 0.5},
                opacity={kind: opacity},
                foreground=rule,
                scales=PerlinScales(),
                seed=0,
            )
            groups = [list(range(first, first + options.batch)) for first in range(0, IMAGES, options.batch)]
            began = time.perf_counter()
            for step, group in enumerate(groups):
                ours.batch(group, step)
            first = (time.perf_counter() - began) / IMAGES
            for step in range(20):  # every image and source has been seen
                ours.batch(groups[step % len(groups)], step)
            steps = iter(range(10**6))
            compare(
                f"items, half {kind} in {category[1]}",
                lambda: [reference.batch(group) for group in groups],  # noqa: B023
                lambda: [ours.batch(group, next(steps)) for group in groups],  # noqa: B023
                options.rounds,
                IMAGES,
            )
            print(f"  our first epoch, which decodes and finds foregrounds: {1000 * first:.2f} ms per image")


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {"perlin": perlin, "items": items}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if cv2 is not None:
        cv2.setNumThreads(1)
    print(f"{torch.get_num_threads()} threads, {options.size}x{options.size} pixels, batch {options.batch}")
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    main()
