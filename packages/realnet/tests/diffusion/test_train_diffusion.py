from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from adcommon.data import load_splits
from adcommon.errors import BadValue
from adcommon.io.model_folder import TENSORS
from adcommon.models.pickles import read_safetensors
from adcommon.testing.commands import read_table
from adcommon.testing.runs import stopped_and_resumed
from adcommon.testing.trees import make_mvtec
from adcommon.training.run import Run, RunGroup
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record
from realnet.diffusion.data import Classes, TrainingBatch
from realnet.diffusion.process import Process
from realnet.diffusion.recipes import DIFFUSION_RECIPES
from realnet.diffusion.schedule import make_schedule
from realnet.diffusion.settings import TrainSettings
from realnet.diffusion.store import build, load
from realnet.diffusion.train_diffusion import add_gradient, train

RECIPE = replace(
    DIFFUSION_RECIPES["tiny"],
    image_size=16,
    dropout=0.1,
    batch_size=4,
    chunk_size=2,
    accumulate=2,
    epochs=2,
    iterations=None,
    evaluate_every=1,
    validation_batches=1,
    validation_respacing="ddim2",
    keep_epochs=1,
)
SETTINGS = TrainSettings(cache=False, save_every=1, pictures=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"), train=4)
    return tmp_path


def images_of(root: Path) -> dict[str, list[Record]]:
    return {name: split.train for name, split in load_splits("mvtec", root, ("bottle", "cable")).items()}


def run_once(root: Path, name: str, recipe=RECIPE, settings=SETTINGS) -> dict[str, torch.Tensor]:
    run = RunGroup(root / name).run("diffusion")
    train(recipe, images_of(root), run, Accelerator(cpu=True), settings, StopSignal())
    return read_safetensors(run.model / TENSORS)


def test_a_training_leaves_models_metrics_and_pictures(root: Path, caplog) -> None:
    pictures = replace(SETTINGS, pictures=True, profile=True, save_official=root / "ckpt.pth.tar")
    run_once(root, "run", settings=pictures)
    assert "wrote no trace" in caplog.text  # of four steps
    folder = root / "run" / "diffusion"
    assert [line["step"] for line in read_table(folder / "speed.csv")] == ["1", "2", "3", "4"]
    lines = (folder / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,loss,gradient_norm,rebuild_mse"
    assert [bool(line.split(",")[3]) for line in lines[1:]] == [False, True, False, True]
    assert [path.name for path in (folder / "epochs").iterdir()] == ["1"]
    picture = next(iter((folder / "maps" / "2").glob("*/good/*.png")))
    with Image.open(picture) as opened:
        assert opened.size == (48, 32)  # three tiles above three
    assert load(root / "run", RECIPE).categories == ("bottle", "cable")
    file = torch.load(root / "ckpt.pth.tar", weights_only=True)
    assert (file["epoch"], set(file)) == (2, {"epoch", "arch", "state_dict", "loss"})
    with pytest.raises(BadValue, match="2 classes"):
        load(root / "ckpt.pth.tar", RECIPE, ("a", "b", "c"))


def test_what_is_kept_is_the_average_and_it_moves_only_with_an_update(root: Path) -> None:
    # With an average that never moves, the model is the initial one; with one that does not average, another.
    still = run_once(root, "still", replace(RECIPE, ema_decay=0.999999, iterations=2))
    moving = run_once(root, "moving", replace(RECIPE, ema_decay=0.0, iterations=2))
    one = run_once(root, "one", replace(RECIPE, ema_decay=0.0, iterations=1))
    torch.manual_seed(RECIPE.seed)
    first = build(RECIPE, 2).state_dict()["time_embed.0.weight"]
    torch.testing.assert_close(still["time_embed.0.weight"], first, rtol=0, atol=1e-6)
    assert not torch.allclose(moving["out.2.bias"], still["out.2.bias"], rtol=0, atol=1e-6)
    # The second batch of two waits for an update that never comes.
    assert all(torch.equal(one[name], moving[name]) for name in one)


def test_a_stopped_training_resumes_to_the_same_bits(root: Path) -> None:
    def trains(run: Run, resume: bool, stop: StopSignal) -> None:
        recipe, settings = replace(RECIPE, iterations=4), replace(SETTINGS, resume=resume)
        train(recipe, images_of(root), run, Accelerator(cpu=True), settings, stop)

    # Asked to stop after the second batch, it goes on to the third, which makes an update.
    stopped_and_resumed(trains, root, questions=2, step=3)
    with pytest.raises(BadValue, match="begun with the categories bottle cable, not with bottle"):
        Classes(["bottle"]).load_state_dict(Classes(["bottle", "cable"]).state_dict())


def test_parts_of_a_batch_add_up_to_its_gradient() -> None:
    torch.manual_seed(0)
    unet, process = build(RECIPE, 2), Process(make_schedule())
    torch.nn.init.normal_(unet.out[2].weight, std=0.1)
    unet.eval()  # dropout would draw differently
    batch = TrainingBatch(
        torch.randn(5, 3, 16, 16),
        torch.tensor([0, 1, 0, 1, 0]),
        torch.randn(5, 3, 16, 16),
        torch.tensor([0, 3, 100, 500, 999]),
    )
    gradients = []
    for chunk_size in (5, 2):
        unet.zero_grad()
        recipe = replace(RECIPE, chunk_size=chunk_size, clip_norm=1e9)
        loss, norm = add_gradient(unet, process, batch, Accelerator(cpu=True), recipe)
        gradients.append([loss, norm, *(parameter.grad for parameter in unet.parameters())])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-5)


def test_gradients_add_up_and_their_sum_is_clipped() -> None:
    torch.manual_seed(0)
    unet, process = build(RECIPE, 2), Process(make_schedule())
    given = TrainingBatch(
        torch.randn(2, 3, 16, 16),
        torch.tensor([0, 1]),
        torch.randn(2, 3, 16, 16),
        torch.tensor([5, 500]),
    )

    def norms(clip_norm: float) -> list[float]:
        unet.zero_grad()
        found = []
        for _ in range(2):
            recipe = replace(RECIPE, clip_norm=clip_norm)
            _, norm = add_gradient(unet.eval(), process, given, Accelerator(cpu=True), recipe)
            found.append(float(norm))
        return found

    free, limited = norms(1e9), norms(0.1)
    assert free[1] == pytest.approx(2 * free[0], rel=1e-4)
    assert limited == [pytest.approx(free[0]), pytest.approx(free[0] + 0.1, rel=1e-4)]
