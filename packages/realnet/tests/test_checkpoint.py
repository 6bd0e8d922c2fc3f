import pytest
import torch

from adcommon.errors import WrongCheckpoint
from adcommon.models.checkpoint import save_trained
from adcommon.testing.alterations import loads_or_is_refused
from adcommon.types.facts import Facts
from adcommon.types.threshold import Threshold
from realnet.checkpoint import load_detector, load_trained, save_official
from realnet.compat.official import load_checkpoint, save_checkpoint
from realnet.detector import make_preprocess
from realnet.evaluate import facts
from realnet.published import PAPER


def test_a_model_folder_and_the_authors_file_give_the_same_detector(
    make_model, tiny, images, tmp_path
) -> None:
    model = make_model().eval()
    save_trained(
        tmp_path / "model",
        model.state_dict(),
        PAPER,
        facts(tiny, "random"),
        recipe=tiny,
        preprocess=make_preprocess(tiny),
        categories=["bottle"],
        threshold=Threshold(value=0.25, false_alarm_rate=0.05, images=20, supported=True),
    )
    ours = load_trained(tmp_path / "model")
    assert (ours.recipe, ours.categories, ours.threshold.value) == (tiny, ("bottle",), 0.25)
    assert ours.facts == facts(tiny, "random")

    file = tmp_path / "ckpt_best.pth.tar"
    save_official(file, ours, tmp_path / "model")
    theirs = load_trained(file)
    assert (theirs.categories, theirs.threshold) == ((), None)
    assert theirs.facts == Facts(
        method="realnet",
        dataset="mvtec",
        setting="one-class",
        backbone=tiny.backbone,
        weights=str(file),
        seed=100,
    )
    first, second = (trained.scorer.score(images) for trained in (ours, theirs))
    assert torch.allclose(first.anomaly_maps, second.anomaly_maps, atol=1e-6)
    third = load_detector(tmp_path / "model").score(images)
    assert torch.equal(first.anomaly_maps, third.anomaly_maps)


def test_a_file_of_the_authors_keeps_its_epoch_and_its_result(make_model, tiny, tmp_path) -> None:
    save_checkpoint(tmp_path / "a.pth.tar", make_model(), tiny, epoch=3, best_metric=0.75)
    save_official(tmp_path / "b.pth.tar", load_trained(tmp_path / "a.pth.tar"), tmp_path / "a.pth.tar")
    again = load_checkpoint(tmp_path / "b.pth.tar")
    assert (again.epoch, again.best_metric) == (3, 0.75)


def test_what_is_neither_says_what_was_expected(tmp_path) -> None:
    with pytest.raises(WrongCheckpoint, match=r"expected a folder with config.json"):
        load_trained(tmp_path)


@pytest.mark.parametrize(
    "count", [6, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_no_value_of_a_config_is_believed(make_model, tiny, tmp_path, count: int) -> None:
    save_trained(
        tmp_path / "model",
        make_model().state_dict(),
        PAPER,
        facts(tiny, "random"),
        recipe=tiny,
        preprocess=make_preprocess(tiny),
        categories=["bottle"],
        threshold=Threshold(value=0.25, false_alarm_rate=0.05, images=20, supported=True),
        own={"step": 3},
    )
    loads_or_is_refused(tmp_path / "model", load_trained, count)
