import torch

from baselines.features import make_preprocess
from baselines.padim.detector import PaDiMDetector, make_detector
from baselines.padim.model import build


def test_a_strange_spot_is_the_highest_place_of_the_map(padim_recipe, images) -> None:
    model = build(padim_recipe, weights="random")
    model.fit([images], padim_recipe)
    detector = make_detector(model, make_preprocess(padim_recipe), padim_recipe)
    spoiled = images[:1].clone()
    spoiled[:, :, 40:56, 8:24] = 6
    prediction = detector.score(torch.cat([images[:1], spoiled]))
    assert prediction.anomaly_maps is not None
    assert prediction.anomaly_maps.shape == (2, 64, 64)
    row, column = divmod(int(prediction.anomaly_maps[1].argmax()), 64)
    assert 36 <= row < 60
    assert 4 <= column < 28
    assert prediction.image_scores[1] > prediction.image_scores[0]
    assert prediction.image_scores[1] == prediction.anomaly_maps[1].max()
    top = PaDiMDetector(model, detector.preprocess, image_score="top1").score(spoiled)
    assert top.image_scores[0] < prediction.image_scores[1]
