import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from adcommon.models.anomaly_maps import upsample
from baselines.scores import image_scores, smooth


def test_maps_are_smoothed_as_scipy_does() -> None:
    distances = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    wide = upsample(distances, (64, 64), align_corners=False).numpy()
    wanted = np.stack([gaussian_filter(one, 4.0) for one in wide])
    np.testing.assert_allclose(smooth(distances, (64, 64), 4.0).numpy(), wanted, atol=1e-5)
    np.testing.assert_array_equal(smooth(distances, (64, 64), 0.0).numpy(), wide)


def test_a_score_is_the_maximum_or_the_mean_of_the_highest() -> None:
    maps = torch.arange(400.0).reshape(1, 20, 20)
    assert image_scores(maps, "max").tolist() == [399.0]
    assert image_scores(maps, "top1").tolist() == [(399 + 398 + 397 + 396) / 4]
