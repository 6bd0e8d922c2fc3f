"""Parity with the reference implementation on golden files; what varies comes from their meta.json."""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.models.anomaly_maps import mean_score, pooled_max_score, std_score, upsample
from adcommon.models.backbones import fill_trunk
from adcommon.models.checkpoint import load_strict
from adcommon.models.efficientnet import from_efficientnet_pytorch
from adcommon.results.pictures import jet
from adcommon.testing.golden import GoldenFile, GoldenFolder, golden_cases, kinds_read
from adcommon.types.records import Record
from uniad.backbone import AlignedFeatures, align
from uniad.compat.arch import tag_of
from uniad.compat.official import fill, load_checkpoint, save_checkpoint, to_official
from uniad.losses import feature_mse, image_mse
from uniad.metrics import uniad_metrics
from uniad.model import Outputs, Reconstruction, UniAD, distance, jitter
from uniad.network.attention import neighbour_mask
from uniad.network.position import make_position
from uniad.optimiser import lr_factor, make_optimiser, update
from uniad.pictures.decoder import VisDecoder
from uniad.pictures.drawing import compound
from uniad.pictures.train_decoder import update as update_decoder
from uniad.pictures.visualise import decode_queries
from uniad.recipes import MVTEC, Recipe

MODULE = "module."


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    golden_cases(metafunc)


@pytest.fixture
def seeded(folder: GoldenFolder):
    """The seeded state that an entry describes, without "module."."""

    def state(described: dict, prefix: str = "") -> dict[str, Tensor]:
        entries = {name.removeprefix(MODULE): value for name, value in folder.state(described).items()}
        return {
            name.removeprefix(prefix): torch.as_tensor(value)
            for name, value in entries.items()
            if name.startswith(prefix)
        }

    return state


def inputs(file: GoldenFile) -> dict[str, Tensor]:
    return {name: torch.as_tensor(file.input(given)) for name, given in file.entry["inputs"].items()}


def stepped(value: Tensor, steps: list[int] | None) -> Tensor:
    return value[tuple(slice(None, None, step) for step in steps)] if steps else value


def statistics(value: Tensor, first: int) -> Tensor:
    flat = value.detach().double().flatten()
    return torch.cat([flat.mean()[None], flat.std(correction=0)[None], flat[:first]])


def build_reconstruction(described: dict, jitter_scale: float = 0.0) -> Reconstruction:
    return Reconstruction(
        described["in_channels"],
        tuple(described["grid"]),
        hidden_dim=described["hidden"],
        heads=described["heads"],
        encoder_layers=described["encoder_layers"],
        decoder_layers=described["decoder_layers"],
        feedforward=described["feedforward"],
        dropout=described.get("dropout", 0.1),
        activation=described["activation"],
        pre_norm=described["pre_norm"],
        position=described["position_embedding"],
        neighbourhood=tuple(described["neighbor_size"]),
        masked=tuple(described["neighbor_mask"]),
        jitter_scale=jitter_scale,
    )


def build_backbone(entry: dict) -> AlignedFeatures:
    tag = tag_of(entry["backbone"]["name"])
    out_stride = entry.get("neck", {"out_stride": 16})["out_stride"]
    backbone = AlignedFeatures(tag, None, strides=entry["backbone"]["strides"], out_stride=out_stride)
    assert list(backbone.pyramid.channels) == entry["backbone"]["channels"]
    return backbone


def build_model(entry: dict, state: dict[str, Tensor], jitter_scale: float = 0.0) -> UniAD:
    backbone = build_backbone(entry)
    model = UniAD(backbone, build_reconstruction(entry["reconstruction"], jitter_scale))
    fill(model, state, backbone.tag, where="golden")
    return model


def test_every_listed_file_has_a_reader(folder: GoldenFolder) -> None:
    assert folder.without_reader(kinds_read(Path(__file__))) == []


@pytest.mark.usefixtures("device")
def test_backbone(file: GoldenFile, seeded) -> None:
    backbone, tag = build_backbone(file.entry), tag_of(file.entry["backbone"]["name"])
    state = from_efficientnet_pytorch(seeded(file.entry["state"], "backbone."), tag)
    fill_trunk(backbone.pyramid.trunk, state, tag)
    taps = backbone.pyramid(inputs(file)["image"])
    with file:
        for name, output in file.entry["outputs"].items():
            if "taps" in output:
                got = torch.stack([statistics(taps[tap], output["first_values"]) for tap in output["taps"]])
            else:
                got = stepped(taps[output["tap"]], output.get("steps"))
            file.check(name, got)


@pytest.mark.usefixtures("device")
def test_neck(file: GoldenFile) -> None:
    given, stride = inputs(file), file.entry["out_stride"]
    grid = tuple(side // stride for side in file.entry["image_size"])
    with file:
        for name, output in file.entry["outputs"].items():
            file.check(name, align([given[level] for level in output["features"]], grid))


def test_neighbor_mask(file: GoldenFile) -> None:
    rows = []
    with file:
        for name, output in file.entry["outputs"].items():
            if "grid" in output:
                rows.append((*output["grid"], *output["neighbor_size"]))
                mask = neighbour_mask(tuple(output["grid"]), tuple(output["neighbor_size"]))
                file.check(name, mask)
        file.check("sizes", np.array(rows))


@pytest.mark.usefixtures("device")
def test_position_embedding(file: GoldenFile, seeded) -> None:
    entry = file.entry
    values = {"feature_size": np.array(entry["grid"])}
    for name, output in entry["outputs"].items():
        if "position_embedding" in output:
            position = make_position(output["position_embedding"], tuple(entry["grid"]), entry["hidden"])
            if list(position.parameters()):
                load_strict(position, seeded(entry["state"], "reconstruction.pos_embed."), where="golden")
            values[name] = position()
    with file:
        file.check_all(values)


@pytest.mark.usefixtures("device")
def test_jitter(file: GoldenFile) -> None:
    given = {name: tensor.transpose(0, 1) for name, tensor in inputs(file).items()}
    jittered = jitter(given["tokens"], given["noise"], file.entry["scale"])
    with file:
        file.check_all({"out": jittered.transpose(0, 1), "scale": np.array(file.entry["scale"])})


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_model(file: GoldenFile, seeded) -> None:
    entry = file.entry
    model = build_model(entry, seeded(entry["state"])).eval()
    outputs = model(inputs(file)["image"])
    distances = distance(outputs)
    maps = upsample(distances, tuple(entry["upsample"]["size"]), entry["upsample"]["align_corners"])
    values = {
        "loss": entry["outputs"]["loss"]["weight"] * feature_mse(outputs),
        "distance": distances,
        "pred": maps[:, None],
        "feature_align": outputs.features,
        "feature_rec": outputs.rebuilt,
        "score_mean": mean_score(maps),
        "score_std": std_score(maps),
        "score_max": pooled_max_score(maps, entry["outputs"]["score_max"]["pool"]),
    }
    with file:
        for name, output in entry["outputs"].items():
            file.check(name, stepped(values[name], output.get("steps")))


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_reconstruction(file: GoldenFile, seeded) -> None:
    features = inputs(file)["feature_align"]
    with file:
        for name, output in file.entry["outputs"].items():
            network = build_reconstruction(output["reconstruction"]).eval()
            load_strict(network, seeded(output["state"], "reconstruction."), where=name)
            file.check(name, stepped(network(features), output.get("steps")))


@pytest.mark.usefixtures("device")
def test_losses(file: GoldenFile) -> None:
    given = inputs(file)
    with file:
        for name, output in file.entry["outputs"].items():
            rebuilt, wanted = (given[part] for part in output["inputs"])
            loss = feature_mse(Outputs(wanted, rebuilt)) if "feature" in name else image_mse(wanted, rebuilt)
            file.check(name, output["weight"] * loss)


def recipe_of(entry: dict) -> Recipe:
    options = entry["optimizer"]
    assert options["eps"] == 1e-8  # torch's own
    return Recipe(
        optimiser=options["type"].lower(),
        lr=options["lr"],
        adam_beta1=options["betas"][0],
        adam_beta2=options["betas"][1],
        weight_decay=options["weight_decay"],
        clip_norm=entry["clip_max_norm"],
        loss_weight=entry["loss"]["weight"],
    )


@pytest.mark.usefixtures("device")
def test_train(file: GoldenFile, seeded) -> None:
    entry, recipe = file.entry, recipe_of(file.entry)
    dtype = getattr(torch, entry["compute_dtype"])
    model = build_model(entry, seeded(entry["state"]), entry["jitter"]["scale"]).to(dtype).train()
    assert not model.backbone.pyramid.trunk.training
    optimiser, _ = make_optimiser(model.reconstruction.parameters(), recipe, steps_per_epoch=1)
    accelerator = Accelerator(cpu=True)
    losses, norms = [], []
    for step in entry["steps"]:
        images = torch.as_tensor(file.input(step["image"])).to(dtype)
        noise = torch.as_tensor(file.input(step["noise"])).to(dtype).transpose(0, 1)
        loss, norm = update(
            model.reconstruction,
            model.features(images),
            optimiser,
            accelerator,
            clip_norm=recipe.clip_norm,
            loss_weight=recipe.loss_weight,
            noise=noise,
        )
        losses.append(float(loss))
        norms.append(float(norm))
    values = trajectory(file, losses, norms, model.reconstruction, to_official(model))
    with file:
        file.check_all(values)


def trajectory(file: GoldenFile, losses: list, norms: list, trained: torch.nn.Module, state: dict) -> dict:
    values: dict = {"losses": np.array(losses), "grad_norms": np.array(norms)}
    values["n_trainable"] = np.array(sum(parameter.numel() for parameter in trained.parameters()))
    for name, output in file.entry["outputs"].items():
        if "entry" in output:
            values[name] = statistics(state[output["entry"]], output["first_values"])
    return values


def build_decoder(described: dict) -> VisDecoder:
    decoder = VisDecoder(described["in_channels"], described["in_stride"])
    assert described["block"] == "basic"
    for layer, blocks in described["blocks"].items():
        assert len(getattr(decoder, layer)) == blocks
    assert {decoder.bn1.momentum} == {described["batch_norm_momentum"]}
    return decoder


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("precision", [pytest.param("float64", marks=pytest.mark.slow), "float32"])
def test_train_decoder(file: GoldenFile, seeded, precision: str) -> None:
    entry, recipe = file.entry, recipe_of(file.entry)
    dtype = getattr(torch, precision)
    backbone, decoder = build_backbone(entry), build_decoder(entry["decoder"])
    tag = backbone.tag
    fill_trunk(
        backbone.pyramid.trunk, from_efficientnet_pytorch(seeded(entry["state"], "backbone."), tag), tag
    )
    load_strict(decoder, seeded(entry["state"], "reconstruction."), where="golden")
    backbone, decoder = backbone.to(dtype), decoder.to(dtype).train()
    optimiser, _ = make_optimiser(decoder.parameters(), recipe, steps_per_epoch=1)
    losses, norms = [], []
    exact = precision == entry["compute_dtype"]
    for step in entry["steps"][: None if exact else len(entry["float32_losses_rtol"])]:
        images = torch.as_tensor(file.input(step["image"])).to(dtype)
        loss, norm = update_decoder(
            decoder,
            images,
            backbone(images)[0],
            optimiser,
            Accelerator(cpu=True),
            clip_norm=recipe.clip_norm,
        )
        losses.append(float(loss))
        norms.append(float(norm))
    if not exact:
        for loss, stored, rtol in zip(losses, file["losses"], entry["float32_losses_rtol"], strict=False):
            assert loss == pytest.approx(float(stored), rel=rtol)
        return
    state = {f"{MODULE}reconstruction.{n}": v for n, v in decoder.state_dict().items()}
    with file:
        file.check_all(trajectory(file, losses, norms, decoder, state))


def test_lr_schedule(file: GoldenFile) -> None:
    entry = file.entry
    assert entry["type"] == "StepLR"
    recipe = Recipe(
        lr=entry["base"], lr_step=entry["step_size"], lr_gamma=entry["gamma"], epochs=entry["epochs"]
    )
    values = {
        "lr": np.array([recipe.lr * lr_factor(epoch, recipe) for epoch in range(recipe.epochs)]),
        "base": np.array(recipe.lr),
        "step_size": np.array(recipe.lr_step),
        "gamma": np.array(recipe.lr_gamma),
    }
    with file:
        file.check_all(values)


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_decoder(file: GoldenFile, seeded) -> None:
    given = inputs(file)
    with file:
        for name, output in file.entry["outputs"].items():
            decoder = build_decoder(output["decoder"])
            load_strict(decoder, seeded(output["state"], "reconstruction."), where=name)
            decoder.train(output["mode"] == "train")
            file.check(name, decoder(given[output["input"]]))


@pytest.mark.usefixtures("device")
@torch.no_grad()
@pytest.mark.slow
def test_query_tiles(file: GoldenFile, seeded) -> None:
    entry = file.entry
    state = seeded(entry["state"], "reconstruction.")
    decoder = build_decoder(entry["decoder"])
    own = decoder.state_dict().keys()
    load_strict(decoder, {name: value for name, value in state.items() if name in own}, where="golden")
    projection = torch.nn.Linear(entry["hidden"], entry["decoder"]["in_channels"])
    load_strict(projection, {n: state[f"output_proj.{n}"] for n in ("weight", "bias")}, where="golden")
    queries = []
    for query in entry["queries"]:
        if "constant" in query:
            tokens = torch.full((np.prod(entry["grid"]), entry["hidden"]), query["constant"])
        else:
            tokens = state[query["entry"].removeprefix(f"{MODULE}reconstruction.")]
        queries.append(tokens)
    preprocess = Preprocess(image_size=224, mean=entry["mean"], std=entry["std"])
    with file:
        for name, output in entry["outputs"].items():
            tiles = decode_queries(
                queries,
                tuple(entry["grid"]),
                projection,
                decoder,
                preprocess,
                batch_statistics=output["mode"] == "train",
            )
            file.check(name, stepped(tiles * (entry["multiply"] / 255), output["steps"]))


@pytest.mark.filterwarnings("ignore:.*reported as:UserWarning")  # what is tested here
def test_metrics(file: GoldenFile) -> None:
    entry = file.entry
    maps, masks, classes = file["preds"], file["masks"], file["classes"]
    assert entry["replace_below_half"]
    pool = entry["metrics"]["max"]["pool"]
    found = {}
    for name in entry["class_names"]:
        chosen = classes == name
        result = uniad_metrics(maps[chosen], masks[chosen], pool)
        found |= {f"{name}_{column}_auc": getattr(result, column) for column in entry["metrics"]}
    for column in entry["metrics"]:
        values = [found[f"{name}_{column}_auc"] for name in entry["class_names"]]
        found[f"mean_{column}_auc"] = np.mean(values)
    with file:
        file.check("values", np.array([found[key] for key in entry["keys"]]))
        file.check("keys", np.array(entry["keys"]))
        file.check("pool", np.array(pool))


def test_preprocess(file: GoldenFile, tmp_path: Path) -> None:
    entry = file.entry
    for name in entry["inputs"]:
        Image.fromarray(file[name]).save(tmp_path / f"{name}.png")
    height, width = entry["size"]
    # The reference's images may have any proportions; `Preprocess` makes squares, here one for each side.
    image = Image.open(tmp_path / "image.png").resize((width, height), Image.Resampling.BILINEAR)
    mask = Image.open(tmp_path / "mask.png").resize((width, height), Image.Resampling.NEAREST)
    square = Preprocess(
        image_size=max(entry["size"]),
        interpolation=entry["image_interpolation"],
        mean=entry["mean"],
        std=entry["std"],
    )
    side = square.image_size
    on_disk = Image.open(tmp_path / "image.png").resize((side, side), Image.Resampling.BILINEAR)
    assert np.array_equal(square.pixels(tmp_path / "image.png"), np.asarray(on_disk))
    on_disk = Image.open(tmp_path / "mask.png").resize((side, side), Image.Resampling.NEAREST)
    got = square.mask(Record(tmp_path / "image.png", "part", 1, mask=tmp_path / "mask.png"))
    assert np.array_equal(got, np.asarray(on_disk) > 0)
    assert entry["mask_interpolation"] == square.mask_rule == "nearest"

    cifar = Preprocess(
        image_size=entry["cifar"]["size"][0],
        interpolation=entry["cifar"]["interpolation"],
        mean=entry["mean"],
        std=entry["std"],
    )
    upscaled = normalise(cifar.pixels(tmp_path / "cifar_image.png")[None], cifar)[0]
    with file:
        file.check("out_image", normalise(np.asarray(image)[None], square)[0])
        file.check("out_mask", (np.asarray(mask) > 0)[None].astype(np.float32))
        file.check("size", np.array(entry["size"]))
        file.check("cifar_out", stepped(upscaled, entry["outputs"]["cifar_out"]["steps"]))
        first = entry["outputs"]["cifar_stats"]["first_values"]
        file.check("cifar_stats", statistics(upscaled, first))


def test_visualize(file: GoldenFile) -> None:
    image, maps, masks = file["image"], file["preds"], file["masks"]
    assert file.entry["alpha"] == 0.5
    with file:
        for name, output in file.entry["outputs"].items():
            if "index" not in output:
                file.check(name, jet(np.arange(256, dtype=np.uint8)))
                continue
            low, high = output["min_score"], output["max_score"]
            mask = masks[output["index"]] > 0
            got = compound(
                image,
                mask if output["defective"] else None,
                maps[output["index"]],
                low=float(maps.min()) if low is None else low,
                high=float(maps.max()) if high is None else high,
            )
            file.check(name, got)


def test_checkpoint(file: GoldenFile, seeded, tmp_path: Path) -> None:
    entry = file.entry
    checkpoint = load_checkpoint(file.path)
    assert [(part["name"], part["type"]) for part in checkpoint.arch] == [
        (part["name"], part["type"]) for part in entry["arch"]
    ]
    options = checkpoint.arch[2]["kwargs"]
    assert {name: options[name] for name in entry["reconstruction_kwargs"]} == entry["reconstruction_kwargs"]
    assert (checkpoint.epoch, checkpoint.best_metric) == (entry["epoch"], entry["best_metric"])
    for group, stored in zip(checkpoint.optimizer["param_groups"], entry["param_groups"], strict=True):
        assert {name: group[name] for name in stored} == {**stored, "betas": tuple(stored["betas"])}
    state = seeded(entry["state"])
    assert checkpoint.state.keys() == state.keys()
    assert all(torch.equal(checkpoint.state[name], value) for name, value in state.items())


def test_a_seeded_checkpoint_survives_the_way_through_our_model(
    folder: GoldenFolder, seeded, tmp_path
) -> None:
    entry = folder.files[folder.names("model")[0]]
    state = seeded(entry["state"])
    recipe = MVTEC
    model = build_model(entry, state)
    save_checkpoint(tmp_path / "ckpt.pth.tar", model, recipe, epoch=7, best_metric=0.5, rest=state)
    again = load_checkpoint(tmp_path / "ckpt.pth.tar")
    assert (again.epoch, again.best_metric, again.recipe) == (7, 0.5, recipe)
    assert again.state.keys() == state.keys()
    assert all(torch.equal(again.state[name], value) for name, value in state.items())
