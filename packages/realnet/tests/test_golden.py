"""Parity of RealNet itself with the reference implementation; what varies comes from the files' meta.json.

The kinds of diffusion and of synthesis are in test_golden_diffusion.py and test_golden_synthesis.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from adcommon.metrics import auroc, f1_max
from adcommon.metrics.variants.rankings import mirrored_auroc
from adcommon.models.anomaly_maps import pooled_max_score
from adcommon.models.backbones import FeaturePyramid, fill_trunk
from adcommon.models.outline import Undrawn
from adcommon.testing.golden import GoldenFile, GoldenFolder, golden_cases, kinds_read
from realnet.compat.arch import network_values
from realnet.compat.official import fill, to_official
from realnet.losses import feature_mse, segmentation_cross_entropy, segmentation_focal
from realnet.metrics import realnet_pro
from realnet.model import RealNet
from realnet.network.afs import AFS, Pair, best_channels, channel_scores, total_scores
from realnet.network.reconstruction import SimpleReconstruction
from realnet.network.structure import layers_of, parse_structure
from realnet.optimiser import make_optimiser, mixed_features, update
from realnet.recipes import Recipe

HEAVY_VALUES = 2e8
"""Models with more values than this are tested only where slow tests are."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    golden_cases(metafunc, is_heavy)


def is_heavy(folder: GoldenFolder, name: str) -> bool:
    entry = folder.files[name]
    if entry["kind"] != "realnet_forward":
        return False
    table = folder.files[entry["model"]["state"]["shapes"]]["models"][entry["model"]["state"]["key"]]
    return table["values"] > HEAVY_VALUES


def test_every_listed_file_has_a_reader(folder: GoldenFolder) -> None:
    assert folder.without_reader(kinds_read(Path(__file__))) == []


def recipe_of(described: dict, image_size: int) -> Recipe:
    values = network_values(described, where="golden")
    recipe = Recipe(image_size=image_size, channels_last=False, **values)
    for layer, facts in described["backbone"]["layers"].items():
        assert layer in " ".join(recipe.structure)
        assert facts["stride"]
    return recipe


def seeded_model(folder: GoldenFolder, entry: dict, image_size: int) -> RealNet:
    """The model of an entry with its seeded weights and chosen channels, in float32."""
    described = entry["model"]
    recipe = recipe_of(described, image_size)
    with Undrawn():
        model = RealNet(recipe, weights=None)
    facts = described["backbone"]["layers"]
    assert model.channels == {layer: facts[layer]["channels"] for layer in model.channels}
    assert model.afs.strides == {layer: facts[layer]["stride"] for layer in model.channels}
    assert described["rrs"]["bn_momentum"] == model.rrs.bn_idx.momentum
    state = {name: torch.as_tensor(value) for name, value in folder.state(described["state"]).items()}
    for key, place in entry["indexes"].items():
        index = folder.open(place["file"])[place["array"]].astype(np.int64)
        state[f"afs.indexes.{key}"] = torch.as_tensor(index)
    fill(model, state, recipe.backbone, where="golden")
    return model


def pictures(
    file: GoldenFile, batch: dict, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Images with anomalies, without them, and masks of a batch."""
    clean, source = (torch.as_tensor(file.input(batch[name])).to(dtype) for name in ("gt", "src"))
    masks = torch.zeros(batch["mask_shape"], dtype=dtype)
    for mask, (top, bottom, left, right) in zip(masks, batch["boxes"], strict=True):
        mask[:, top:bottom, left:right] = 1
    blend = batch["blend"]
    images = clean * (1 - masks) + masks * (blend["gt"] * clean + blend["src"] * source)
    return images, clean, masks[:, 0]


def statistics(value: Tensor, first: int) -> Tensor:
    flat = value.detach().double().flatten()
    return torch.cat([flat.mean()[None], flat.std(correction=0)[None], flat[:first]])


@pytest.mark.usefixtures("device")
def test_afs(file: GoldenFile, folder: GoldenFolder) -> None:
    entry = file.entry
    recipe = recipe_of(entry["model"], entry["batches"][0]["gt"]["shape"][-1])
    blocks = parse_structure(recipe.structure)
    layers = layers_of(blocks, recipe.backbone)
    backbone, afs = FeaturePyramid(recipe.backbone, None, strides=tuple(layers.values())), AFS(blocks, layers)
    prefix = "backbone.feature_extractor."
    state = folder.state(entry["model"]["state"])
    fill_trunk(
        backbone.trunk,
        {name.removeprefix(prefix): torch.as_tensor(value) for name, value in state.items()},
        recipe.backbone,
    )
    totals: dict[str, Tensor] = {}
    pairs = []
    for batch in entry["batches"]:
        images, clean, masks = pictures(file, batch)
        pair = Pair(*(dict(zip(layers, backbone(value), strict=True)) for value in (images, clean)), masks)
        pairs.append(pair)
        for block in blocks:
            for layer, _ in block.layers:
                grid = afs.grid(block, layer, pair.clean[layer])
                scores = channel_scores(pair.anomalous[layer], pair.clean[layer], masks, grid)
                key = f"{block.name}_{layer}"
                totals[key] = totals.get(key, 0) + scores
    # What training computes leaves out the layers that keep every channel.
    afs.keep_best(total_scores(afs, dict(zip(layers, backbone.channels, strict=True)), pairs))
    with file:
        for name, output in entry["outputs"].items():
            key = f"{output['block']}_{output['layer']}"
            if output["what"] == "score":
                file.check(name, totals[key])
            else:
                file.check(name, afs.indexes[key])
                assert torch.equal(best_channels(totals[key], len(afs.indexes[key])), afs.indexes[key])


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_realnet_forward(file: GoldenFile, folder: GoldenFolder) -> None:
    entry = file.entry
    assert entry["mode"] == "eval"
    model = seeded_model(folder, entry, entry["batch"]["gt"]["shape"][-1]).eval()
    pool = entry["image_score_pool"]
    with file:
        for precision, name in entry["precisions"].items():
            dtype = getattr(torch, name)
            images, _, _ = pictures(file, entry["batch"], dtype)
            values = forward_values(model.to(dtype), images, pool)
            for name, output in entry["outputs"].items():
                if output["precision"] == precision:
                    file.check(name, forward_value(values, output))


def forward_values(model: RealNet, images: Tensor, pool: list[int]) -> dict:
    outputs = model(images)
    maps = outputs.logits.softmax(dim=1)[:, 1]
    joined = torch.cat(
        [
            torch.nn.functional.interpolate(
                residual, outputs.residuals[0].shape[2:], mode="bilinear", align_corners=True
            )
            for residual in outputs.residuals
        ],
        dim=1,
    )
    blocks = zip(model.blocks, outputs.features, outputs.rebuilt, outputs.residuals, strict=True)
    return {
        "anomaly_score": maps[:, None],
        "image_score": pooled_max_score(maps, pool),
        "logit": outputs.logits,
        "rrs_index": dict(zip((mode for mode, _ in model.rrs.modes), model.rrs.choose(joined), strict=True)),
        "blocks": {block.name: parts for block, *parts in blocks},
        "backbone": model.levels(model.backbone(images)),
    }


def forward_value(values: dict, output: dict) -> Tensor:
    match output["what"]:
        case "rrs_index":
            return values["rrs_index"][output["mode"]]
        case "block_stats":
            features, rebuilt, residual = values["blocks"][output["block"]]
            found = {
                **{f"features_{n}": getattr(features, n)() for n in ("mean", "std")},
                **{f"reconstruction_{n}": getattr(rebuilt, n)() for n in ("mean", "std")},
                **{f"residual_{n}": getattr(residual, n)() for n in ("mean", "max")},
            }
            return torch.stack([found[column] for column in output["columns"]])
        case "block_first":
            rows = dict(zip(("features", "reconstruction", "residual"), values["blocks"][output["block"]]))  # noqa: B905
            return torch.stack([rows[row].flatten()[: output["first_values"]] for row in output["rows"]])
        case "backbone_stats":
            level = values["backbone"][output["layer"]]
            return torch.stack([getattr(level, column)() for column in output["columns"]])
        case "backbone_first":
            return values["backbone"][output["layer"]].flatten()[: output["first_values"]]
        case what:
            value = values[what]
            return value[tuple(slice(None, None, step) for step in output.get("steps", ()))]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_realnet_train(file: GoldenFile, folder: GoldenFolder, dtype: str) -> None:
    entry = file.entry
    assert set(entry["precisions"].values()) <= {"float64", "float32"}
    assert entry["optimizer"]["type"] == "Adam"
    assert entry["optimizer"]["eps"] == 1e-8  # torch's own
    assert entry["optimizer"]["groups"] == ["recon", "rrs"]
    beta1, beta2 = entry["optimizer"]["betas"]
    recipe = Recipe(
        lr=entry["optimizer"]["lr"],
        adam_beta1=beta1,
        adam_beta2=beta2,
        weight_decay=entry["optimizer"]["weight_decay"],
        segmentation_weight=entry["loss_weights"]["seg_ce"],
        feature_weight=entry["loss_weights"]["feature_mse"],
    )
    precision = {name: tag for tag, name in entry["precisions"].items()}[dtype]
    model = (
        seeded_model(folder, entry, entry["steps"][0]["gt"]["shape"][-1]).to(getattr(torch, dtype)).train()
    )
    assert not any(module.training for module in model.backbone.modules())
    values = trajectory(model, file, recipe, getattr(torch, dtype))
    state = to_official(model)
    for name, output in entry["outputs"].items():
        if name in entry["not_compared"] or output["precision"] != precision:
            continue
        if "entry" in output:
            file.check(name, statistics(state[output["entry"]], output["first_values"]))
        elif output["what"] == "rrs_index":
            chosen = values["rrs_index"][output["step"]]
            parts = [chosen[part["mode"]][:, : part["columns"]] for part in output["parts"]]
            file.check(name, torch.cat(parts, dim=1))
        else:
            file.check(name, np.array(values[output["what"]]))


def trajectory(model: RealNet, file: GoldenFile, recipe: Recipe, dtype: torch.dtype) -> dict:
    """Losses and chosen residual channels of every step."""
    network, optimiser = model.trainable(), make_optimiser(model, recipe)
    accelerator = Accelerator(cpu=True)
    values: dict = {"seg_ce": [], "feature_mse": [], "rrs_index": []}
    choose = model.rrs.choose

    def observed(residual: Tensor) -> list[Tensor]:
        chosen = choose(residual)
        values["rrs_index"].append(dict(zip((mode for mode, _ in model.rrs.modes), chosen, strict=True)))
        return chosen

    model.rrs.choose = observed  # type: ignore[method-assign]
    for batch in file.entry["steps"]:
        images, clean, masks = pictures(file, batch, dtype)
        features, clean_features = mixed_features(model, model.backbone(clean), images, [True] * len(images))
        losses = update(network, features, clean_features, masks, optimiser, accelerator, recipe)
        values["seg_ce"].append(float(losses[0]))
        values["feature_mse"].append(float(losses[1]))
    return values


@pytest.mark.usefixtures("device")
def test_losses(file: GoldenFile) -> None:
    entry = file.entry
    given = {name: torch.as_tensor(file.input(value)) for name, value in entry["inputs"].items()}
    given |= {name: torch.as_tensor(file[name]) for name in entry["stored_inputs"]}
    with file:
        for case in entry["cases"]:
            file.check(case["array"], case["weight"] * loss_of(case, given))


def loss_of(case: dict, given: dict[str, Tensor]) -> Tensor:
    match case["loss"]:
        case "segment_cross_entropy":
            return segmentation_cross_entropy(given[case["logits"]], given[case["mask"]][:, 0])
        case "segment_focal":
            return segmentation_focal(
                given[case["logits"]],
                given[case["mask"]][:, 0],
                alpha=case["alpha"],
                gamma=case["gamma"],
                balance_index=case["balance_index"],
                smooth=case["smooth"],
            )
        case "feature_mse":
            ours, wanted = zip(*((given[a], given[b]) for a, b in case["pairs"]), strict=True)
            return feature_mse(ours, wanted)
        case "image_mse":  # what the validation of the diffusion model measures
            return torch.nn.functional.mse_loss(*(given[name] for name in case["pair"]))
        case "classifier_cross_entropy":
            return torch.nn.functional.cross_entropy(given[case["logits"]], torch.tensor(case["labels"]))
    raise AssertionError(f"no loss {case['loss']}")


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_simple_recon(file: GoldenFile, folder: GoldenFolder) -> None:
    entry = file.entry
    network = SimpleReconstruction(entry["channels"], entry["num_residual_layers"]).eval()
    prefix = f"{entry['block']}_recon."
    state = {
        name.removeprefix(prefix): torch.as_tensor(value)
        for name, value in folder.state(entry["state"]).items()
    }
    network.load_state_dict(state)
    rebuilt = network(torch.as_tensor(file.input(entry["inputs"]["x"])))
    with file:
        for name, output in entry["outputs"].items():
            match output["what"]:
                case "first_channels":
                    file.check(name, rebuilt[:, : output["channels"]])
                case "mean" | "std" as what:
                    file.check(name, getattr(rebuilt, what)())


@pytest.mark.filterwarnings("ignore:.*reported as:UserWarning")  # what is tested here
def test_metrics(file: GoldenFile) -> None:
    entry = file.entry
    masks = file["masks"] > 0
    labels = masks.any(axis=(1, 2))
    area = mirrored_auroc if entry["mirror_below_half"] else auroc
    maps = {"preds": file["preds"], "1 - preds": 1 - file["preds"]}
    scores = {
        name: pooled_max_score(torch.as_tensor(value), entry["image_score_pool"]).numpy()
        for name, value in maps.items()
    }
    best, threshold = f1_max(maps["preds"], masks)
    fixed = {
        "image_scores": scores["preds"],
        "image_labels": labels.astype(np.int64),
        "pro": realnet_pro(maps["preds"], masks, entry["pro"]["thresholds"], entry["pro"]["max_fpr"]),
        "f1_threshold": threshold,
        "f1_max": best,
    }
    with file:
        for name, output in entry["outputs"].items():
            match output["what"]:
                case "image_auroc":
                    file.check(name, area(scores[output["of"]], labels))
                case "pixel_auroc":
                    file.check(name, area(maps[output["of"]], masks))
                case what:
                    file.check(name, fixed[what])


def test_shapes(file: GoldenFile) -> None:
    """The tables of RealNet; those of the diffusion models are read in test_golden_diffusion.py."""
    tables = file.json()
    for key, described in file.entry["models"].items():
        if described["type"] == "realnet":
            with torch.device("meta"):
                model = RealNet(recipe_of(described, 256), weights=None)
            own = {name: list(value.shape) for name, value in to_official(model).items()}
        elif described["type"] == "simple_recon":
            network = SimpleReconstruction(described["channels"], described["num_residual_layers"])
            own = {
                f"{described['block']}_recon.{name}": list(value.shape)
                for name, value in network.state_dict().items()
            }
        else:
            assert described["type"] in ("diffusion_unet", "diffusion_classifier")
            continue
        assert own == tables[key]
        assert len(own) == described["entries"]
        assert sum(int(np.prod(shape)) for shape in own.values()) == described["values"]
