"""Parity of the diffusion model with the reference on golden files; what varies is in their meta.json."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adcommon.models.checkpoint import load_strict
from adcommon.testing.golden import GoldenFile, GoldenFolder, golden_cases, golden_folder
from realnet.diffusion.data import TrainingBatch
from realnet.diffusion.network.blocks import Shape, time_embedding
from realnet.diffusion.network.classifier import HEAD_WIDTH, Classifier
from realnet.diffusion.network.ema import Ema
from realnet.diffusion.network.unet import UNet
from realnet.diffusion.process import Process, to_pixels
from realnet.diffusion.recipes import ClassifierRecipe, DiffusionRecipe
from realnet.diffusion.schedule import Schedule, kept_steps, make_betas, make_schedule
from realnet.diffusion.setup import make_optimiser
from realnet.diffusion.synthesise import Guidance, invert, sample, sample_ddim
from realnet.diffusion.train_classifier import update
from realnet.diffusion.train_diffusion import add_gradient

KINDS = ("schedule", "diffusion_forward", "sampling", "diffusion_train", "classifier_train")
"""The kinds of golden files that are read here; besides them, the diffusion tables of `shapes`."""
LARGE = 50_000_000
"""Parameters of a network that only the slow tests build."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    golden_cases(metafunc, is_large)
    if "table" in metafunc.fixturenames:
        folder = golden_folder(metafunc.config, Path(__file__))
        tables = [
            (name, key)
            for name in folder.names("shapes")
            for key, model in folder.files[name]["models"].items()
            if model["type"].startswith("diffusion_")
        ]
        metafunc.parametrize("table", tables, ids=lambda table: table[1])


def is_large(folder: GoldenFolder, name: str) -> bool:
    """True where the network is the paper's."""
    described = folder.files[name].get("unet")
    if described is None:
        return False
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_unet(described).parameters()) > LARGE


def build_unet(described: dict) -> UNet:
    assert described["use_scale_shift_norm"]
    assert described["resblock_updown"]
    assert described["learn_sigma"]
    assert described["out_channels"] == 2 * described["in_channels"]
    return UNet(shape_of(described), classes=described["num_classes"])


def build_classifier(described: dict) -> Classifier:
    assert described["use_scale_shift_norm"]
    assert described["resblock_updown"]
    assert described["pool"] == "attention"
    assert described["num_head_channels"] == HEAD_WIDTH
    return Classifier(
        shape_of(described), classes=described["num_classes"], image_size=described["image_size"]
    )


def shape_of(described: dict) -> Shape:
    return Shape(
        in_channels=described["in_channels"],
        width=described["width"],
        depth=described["depth"],
        channel_mult=described["channel_mult"],
        attention_at=described["attention_resolutions"],
        head_width=described["num_head_channels"],
        dropout=described["dropout"],
    )


def filled(network: nn.Module, folder: GoldenFolder, described: dict) -> nn.Module:
    state = {name: torch.as_tensor(value) for name, value in folder.state(described).items()}
    load_strict(network, state, where="golden")
    return network


def networks(folder: GoldenFolder, entry: dict) -> Iterator[nn.Module]:
    """U-Net and classifier of an entry, filled, in its mode and number type."""
    for build, part in ((build_unet, "unet"), (build_classifier, "classifier")):
        if part in entry:
            network = filled(build(entry[part]), folder, entry[part]["state"])
            yield network.train(entry["mode"] == "train").to(getattr(torch, entry["compute_dtype"]))


def schedule_of(described: dict) -> Schedule:
    return make_schedule(
        described["T"],
        described["beta_schedule"],
        described["section_counts"],
        rescale_times=described["rescale_timesteps"],
    )


def given(file: GoldenFile, what: dict) -> Tensor:
    return torch.as_tensor(file.input(what))


def statistics(value: Tensor, first: int) -> Tensor:
    flat = value.detach().double().flatten()
    return torch.cat([flat.mean()[None], flat.std(correction=0)[None], flat[:first]])


def trajectory(file: GoldenFile, losses: list, norms: list, states: dict[str, dict[str, Tensor]]) -> dict:
    values: dict = {"loss": np.array(losses), "grad_norm_before_clip": np.array(norms)}
    for name, output in file.entry["outputs"].items():
        if "entry" in output:
            values[name] = statistics(states[output["of"]][output["entry"]], output["first_values"])
    return values


def test_shapes(table: tuple[str, str], folder: GoldenFolder) -> None:
    name, key = table
    golden = folder.open(name)
    described, shapes = golden.entry["models"][key], golden.json()[key]
    build = {"diffusion_unet": build_unet, "diffusion_classifier": build_classifier}[described["type"]]
    with torch.device("meta"):
        state = build(described).state_dict()
    assert {entry: list(value.shape) for entry, value in state.items()} == shapes
    assert len(state) == described["entries"]
    assert sum(value.numel() for value in state.values()) == described["values"]


def test_schedule(file: GoldenFile) -> None:
    entry = file.entry
    values: dict = {}
    for described in entry["processes"]:
        schedule = schedule_of(described)
        values |= {array: getattr(schedule, table) for table, array in described["arrays"].items()}
    for described in entry["kept_steps"]:
        values[described["array"]] = np.array(kept_steps(described["T"], described["section_counts"]))
    for described in entry["betas"]:
        values[described["array"]] = make_betas(described["type"], described["T"])
    times = torch.tensor(entry["timestep_embedding"]["t"], dtype=torch.float32)
    embedded = time_embedding(times, entry["timestep_embedding"]["dim"])
    (name,) = (array for array in entry["outputs"] if array not in values)
    with file:
        file.check_all(values | {name: embedded})


@pytest.mark.usefixtures("device")
def test_diffusion_forward(file: GoldenFile, folder: GoldenFolder) -> None:
    entry = file.entry
    unet, classifier = networks(folder, entry)
    inputs = {name: given(file, what) for name, what in entry["inputs"].items()}
    images, labels = inputs["x"], torch.tensor(entry["y"])
    times = torch.tensor(entry["t"], dtype=torch.float32)
    with torch.no_grad():
        values = {
            "unet_out": unet(images, times, labels),
            "classifier_logits": classifier(images, times),
        }
    if "classifier_grad" in entry["outputs"]:
        values["classifier_grad"] = Guidance(classifier, labels).gradient(images, times)
    if "process" in entry:
        process = Process(schedule_of(entry["process"]))
        values["q_sample"] = process.add_noise(images, inputs["noise"], torch.tensor(entry["t"]))
        for case in entry["losses"]:
            steps, noise = torch.tensor(case["t"]), inputs[case["noise"]]
            noisy = process.add_noise(images, noise, steps)
            with torch.no_grad():
                output = unet(noisy, process.times[steps], torch.tensor(case["y"]))
            losses = process.losses(output, images, noise, steps)
            found = {"mse": losses.mse, "vb": losses.vb, "loss": losses.total}
            values |= {array: found[loss] for loss, array in case["arrays"].items()}
    with file:
        file.check_all(values)


@pytest.mark.usefixtures("device")
@torch.inference_mode()
def test_sampling(file: GoldenFile, folder: GoldenFolder) -> None:
    entry = file.entry
    with torch.inference_mode(False):
        unet, classifier = networks(folder, entry)
    process, labels = Process(schedule_of(entry["process"])), torch.tensor(entry["y"])
    noise = [
        given(file, {"seeded": name, "shape": entry["noise_shape"]}) for name in entry["noise_per_iteration"]
    ]
    assert entry["clip_denoised"]

    def network(images: Tensor, times: Tensor) -> Tensor:
        return unet(images, times, labels)

    with file:
        for case in entry["cases"]:
            start = given(file, entry["inputs"][case["start"]])
            strengths = torch.full((len(start),), case.get("strength", 0.0))
            scale = case.get("classifier_scale")
            guidance = None if scale is None else Guidance(classifier, labels, scale)
            match case["sampler"]:
                case "ddpm":
                    steps = sample(
                        network, process, start, noise.__getitem__, strengths=strengths, guidance=guidance
                    )
                case "ddim":
                    steps = sample_ddim(
                        network,
                        process,
                        start,
                        noise.__getitem__,
                        strengths=strengths,
                        guidance=guidance,
                        eta=case["eta"],
                    )
                case _:
                    assert case["eta"] == 0
                    steps = invert(network, process, start)
            results = list(steps)
            arrays = case["arrays"]
            for done, array in arrays.get("after_step", {}).items():
                file.check(array, results[int(done) - 1])
            file.check(arrays["final"], results[-1])
            if "nsteps" in arrays:
                file.check(arrays["nsteps"], np.array(len(results)))
            if "uint8" in arrays:
                file.check(arrays["uint8"], to_pixels(results[-1]))


def optimiser_of(entry: dict, network: nn.Module) -> torch.optim.Adam:
    options = entry["optimizer"]
    assert options["type"] == "Adam"
    assert options["eps"] == 1e-8  # torch's own
    first, second = options["betas"]
    recipe = DiffusionRecipe(
        lr=options["lr"], adam_beta1=first, adam_beta2=second, weight_decay=options["weight_decay"]
    )
    return make_optimiser(network, recipe)


def batch_of(file: GoldenFile, step: dict) -> TrainingBatch:
    return TrainingBatch(
        given(file, step["x"]),
        torch.tensor(step["y"]),
        given(file, step["noise"]),
        torch.tensor(step["t"]),
    )


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("chunk_size", [1, 100])
def test_diffusion_train(file: GoldenFile, folder: GoldenFolder, chunk_size: int) -> None:
    entry = file.entry
    (unet,) = networks(folder, entry)
    process, optimiser = Process(schedule_of(entry["process"])), optimiser_of(entry, unet)
    ema = Ema(unet, entry["ema_decay"])
    recipe = DiffusionRecipe(chunk_size=chunk_size, clip_norm=entry["clip_max_norm"])
    losses, norms = [], []
    for number, step in enumerate(entry["steps"]):
        loss, norm = add_gradient(unet, process, batch_of(file, step), Accelerator(cpu=True), recipe)
        assert step["optimizer_step"] == (number % entry["accumulate"] == 0)
        if step["optimizer_step"]:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            ema.update()
        losses.append(float(loss))
        norms.append(float(norm))
    states = {"unet": unet.state_dict(), "ema": ema.network.state_dict()}
    with file:
        file.check_all(trajectory(file, losses, norms, states))


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("chunk_size", [1, 100])
def test_classifier_train(file: GoldenFile, folder: GoldenFolder, chunk_size: int) -> None:
    entry = file.entry
    (classifier,) = networks(folder, entry)
    process, optimiser = Process(schedule_of(entry["process"])), optimiser_of(entry, classifier)
    recipe = ClassifierRecipe(chunk_size=chunk_size, clip_norm=entry["clip_max_norm"])
    losses, norms = [], []
    for step in entry["steps"]:
        batch = batch_of(file, step)
        loss, norm, _ = update(classifier, process, batch, optimiser, Accelerator(cpu=True), recipe)
        losses.append(float(loss))
        norms.append(float(norm))
    with file:
        file.check_all(trajectory(file, losses, norms, {"classifier": classifier.state_dict()}))
