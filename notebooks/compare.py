# %% [markdown]
# # Compare and choose
# Two methods look at the same real solar cells, a part of ELPV, which is installed.
# `ad compare` does this for every method and your own images; here is what lies behind its recommendation.

# %%
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import numpy as np

import adcommon as ad
from baselines import padim, patchcore

work = Path(mkdtemp())
draw = Random(0).sample  # at random: in the order of the files, cells of one module stand together
cells = ad.dataset("elpv", category="mono")
normal = draw([cell for cell in cells.test if not cell.label], 40)
anomalous = draw([cell for cell in cells.test if cell.label], 40)
data = replace(cells, train=draw(cells.train, 40), test=[*normal, *anomalous])

# %% [markdown]
# Both learn the same 40 normal cells, at 64 pixels so that this takes seconds.

# %%
models = {
    method.__name__.rpartition(".")[2]: method.fit(
        replace(method.RECIPES["small"], image_size=64), data, out=work / method.__name__
    ).model
    for method in (padim, patchcore)
}

# %% [markdown]
# The image AUROC: the chance that an anomalous cell scores higher than a normal one.
# Beside it where it would lie, 19 times of 20, with 80 other cells of the kind.

# %%
labels = np.array([cell.label for cell in data.test])
images = [cell.image for cell in data.test]
scores = {name: np.array([found.score for found in model.predict(images)]) for name, model in models.items()}
for name, found in scores.items():
    low, high = ad.metrics.auroc_interval(found, labels)
    print(f"{name:9}  {100 * ad.metrics.auroc(found, labels):5.1f}  ({100 * low:.1f} to {100 * high:.1f})")

# %% [markdown]
# Which one? Ask for the interval of the *difference* on the same cells. If it holds zero, these images cannot
# tell the two apart: take the faster one, or more images.

# %%
low, high = ad.metrics.auroc_difference_interval(scores["padim"], scores["patchcore"], labels)
verdict = "cannot be told apart" if low <= 0 <= high else "differ"
print(f"padim - patchcore: {100 * low:+.1f} to {100 * high:+.1f}; they {verdict}")
