# %% [markdown]
# # A detector of one's own
# Anything with `preprocess` and `score` is a detector; nothing is inherited.
# This one keeps the mean and the deviation of every pixel of the normal images.

# %%
from pathlib import Path
from tempfile import mkdtemp

import torch

import adcommon as ad
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import collect
from adcommon.evaluation.measure import measure
from adcommon.types.prediction import Prediction

work = Path(mkdtemp())
data = ad.dataset("synthetic", root=work, category="plate")  # drawn metal plates, with masks


# %%
class PixelGaussian:
    """A Gaussian for every pixel; higher is more anomalous."""

    def __init__(self, normal, preprocess):
        """From images of shape (batch, 3, height, width)."""
        self.preprocess = preprocess
        self.mean, self.deviation = normal.mean(dim=0), normal.std(dim=0) + 0.05

    def score(self, images):
        """The map is the distance of every pixel in deviations, the image score its maximum."""
        maps = ((images - self.mean) / self.deviation).square().mean(dim=1).sqrt()
        return Prediction(maps.amax(dim=(1, 2)), maps)


# %% [markdown]
# `Preprocess` makes images of files, for training and for tests alike, and finds the way back for maps.

# %%
preprocess = Preprocess(image_size=64)
train = AnomalyDataset(data.train, preprocess)
detector = PixelGaussian(train.batch(range(len(train))).images, preprocess)

# %% [markdown]
# It is measured as every other method, by the standard protocol.


# %%
def measured():
    """The metrics of the detector as it is."""
    scores = collect(detector, AnomalyDataset(data.test, preprocess), batch_size=16)
    return measure(scores, category=data.category)


evaluation = measured()
print(f"image AUROC {evaluation.image_auroc:.3f}, AUPRO {evaluation.aupro:.3f}")

# %% [markdown]
# What is the deviation worth? A question of one line.

# %%
detector.deviation = torch.ones_like(detector.deviation)
plain = measured()
print(f"without it {plain.image_auroc:.3f}, AUPRO {plain.aupro:.3f}")

# %% [markdown]
# Commands, a model folder, resuming, a threshold and export come with a package: `docs/new-method.md` is one.
