"""Parity with the reference implementation on golden files; what varies comes from their meta.json.

Longer than other test files because one command must run every kind of golden file of the method.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from adcommon.data import DATASETS, load_records
from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.models.anomaly_maps import max_score
from adcommon.models.backbones import create_trunk
from adcommon.models.neighbours import nearest
from adcommon.testing.golden import GoldenFolder, seeded_input, seeded_tensor
from adcommon.types.records import Record
from resad import losses
from resad.backbone import make_preprocess
from resad.detector import ScoreRange, likelihood_map, merged_map, probability_map
from resad.metrics import ResADResult, resad_aupro, resad_metrics
from resad.model import ResAD
from resad.multishot import charts
from resad.multishot.alignment import distance, histograms, word_map
from resad.multishot.charts import ranking
from resad.multishot.reporting import write_charts
from resad.multishot.tables import (
    NAME,
    SHOT_COLUMNS,
    column,
    epoch_stem,
    latest_table,
    read_table,
    shot_folder,
    table_text,
)
from resad.network.flow import Flow, log_likelihoods
from resad.network.imagebind import ImageBindFeatures, ImageTower
from resad.network.positions import Codes, position_codes
from resad.network.quantizer import VectorQuantiser
from resad.network.residual import (
    ReferenceRows,
    as_maps,
    as_rows,
    match,
    match_classes,
    match_distribution,
    residual,
)
from resad.optimiser import Optimisers, level_mask, update
from resad.recipes import ALIASES, IMAGEBIND, PAPER, Recipe


class Golden:
    """One file of the folder, its entry in meta.json, and which of its arrays were compared."""

    def __init__(self, folder: GoldenFolder, name: str) -> None:
        self.name, self.root, self.salt = name, folder.folder, folder.salt
        self.entry: dict[str, Any] = folder.files[name]
        path = self.root / f"{name}.{self.entry['format']}"
        if self.entry["format"] == "npz":
            with np.load(path) as arrays:
                self.arrays: dict[str, Any] = dict(arrays)
        else:
            self.arrays = json.loads(path.read_text())
        self.compared: set[str] = set()

    def stored(self, name: str) -> Tensor:
        return torch.as_tensor(self.arrays[name])

    def input(self, name: str) -> Tensor:
        """The input `name`, of the shape that the entry lists."""
        for entry in (self.entry, *self.entry.get("flows", {}).values()):
            if name in entry.get("inputs", {}):
                return torch.as_tensor(seeded_input(name, entry["inputs"][name], self.salt))
        raise KeyError(name)

    def state(self, prefix: str = "") -> dict[str, Tensor]:
        """The seeded entries below a prefix, without it."""
        found = {}
        for part in self.entry["state"]:
            special = part.get("special", {})
            full = {part["prefix"] + key: shape for key, shape in self._shapes(part)}
            for name, shape in full.items():
                if name.startswith(prefix):
                    found[name[len(prefix) :]] = self._value(name, shape, special)
        return found

    def _shapes(self, part: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[int]]]:
        if "shapes" in part:
            shapes = part["shapes"]
        else:
            shapes = json.loads((self.root / part["shapes_file"]).read_text())
            for key in part["path"]:
                shapes = shapes[key]
        blocks = part.get("repeat", {}).get("block")
        for key, shape in shapes.items():
            for block in range(blocks) if blocks is not None and "{block}" in key else [None]:
                yield key if block is None else key.replace("{block}", str(block)), shape

    def _value(self, name: str, shape: Sequence[int], special: Mapping[str, Any]) -> Tensor:
        parent, _, last = name.rpartition(".")
        rule = special.get(last, {})
        if "transpose_of" in rule:
            sister = seeded_tensor(f"{parent}.{rule['transpose_of']}", shape[::-1], self.salt)
            return torch.as_tensor(sister.T.copy())
        value = seeded_tensor(name, shape, self.salt)
        if "offset" in rule:
            value = (rule["offset"] + rule["factor"] * value.astype(np.float64)).astype(np.float32)
        return torch.as_tensor(value)

    def check(self, name: str, got: Any, slack: Any = 0.0) -> None:
        """Compare one array as its one matching pattern says, give or take `slack`, entry by entry."""
        self.compared.add(name)
        patterns = self.entry["tolerances"]
        (rule,) = [patterns[pattern] for pattern in patterns if fnmatchcase(name, pattern)]
        stored = np.asarray(self.arrays[name], dtype=np.float64)
        got = np.asarray(got.detach().numpy() if isinstance(got, Tensor) else got, dtype=np.float64)
        assert got.shape == stored.shape, f"{name}: shape {got.shape}, stored {stored.shape}"
        if "equal_fraction" in rule:
            assert (got == stored).mean() >= rule["equal_fraction"], f"{name}: {(got == stored).mean()} equal"
            return
        scale = {"std": stored.std(), "max": np.abs(stored).max(), "stats": stored.flat[1 % stored.size]}
        size = scale[rule["scale"]] if "scale" in rule else 1.0
        same = (got == stored) | (np.isnan(got) & np.isnan(stored))
        excess = np.where(same, 0, np.abs(got - stored) - rule["atol"] * size - rule["rtol"] * np.abs(stored))
        excess = excess - np.asarray(slack)
        assert not np.isnan(excess).any(), name
        worst = np.unravel_index(excess.argmax(), excess.shape)
        assert excess.max() <= 0, f"{name}: got {got[worst]}, stored {stored[worst]} at {worst}"

    def check_all(self, values: Mapping[str, Any]) -> None:
        """Compare these arrays, and fail if any array of the file is neither an input nor compared."""
        for name, value in values.items():
            self.check(name, value)
        left = set(self.arrays) - self.compared - set(self.entry.get("stored_inputs", {}))
        assert left == set(), f"never compared: {sorted(left)}"


READERS = {
    "end_to_end": "test_end_to_end",
    "flow": "test_flow",
    "losses": "test_losses",
    "metrics": "test_metrics",
    "train_stage1": "test_train",
    "train_stage2": "test_train",
    "train_stage2_legacy": "test_train",
    "train_imagebind": "test_train",
    "imagebind_vision_small": "test_imagebind_tower",
    "preprocess": "test_preprocess",
    "datasets": "test_dataset_lists",
    "reports": "test_reports",
    "shapes": "test_shapes",
    "published_references": "test_published_references",
}


@pytest.fixture(autouse=True)
def _rotations_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All weights come from the files: to draw rotations that are replaced at once takes seconds."""
    monkeypatch.setattr("resad.network.flow.random_rotation", lambda channels, _: torch.eye(channels))


@pytest.fixture
def golden(folder: GoldenFolder):
    """Opens a file by name; one that the folder does not list is not asked for."""

    def open_file(name: str) -> Golden:
        if name not in folder.files:
            pytest.skip(f"{folder.folder} does not list {name}")
        return Golden(folder, name)

    return open_file


def test_every_listed_file_has_a_reader(folder: GoldenFolder) -> None:
    assert {name for name in folder.files if READERS.get(name) not in globals()} == set()


def statistics(values: Tensor) -> np.ndarray:
    """Mean, population deviation, and the first six values, in float64."""
    flat = values.detach().double().flatten()
    head = F.pad(flat[:6], (0, max(0, 6 - len(flat))))
    return torch.cat([flat.mean()[None], flat.std(correction=0)[None], head]).numpy()


def recipe_of(entry: Mapping[str, Any], base: Recipe = PAPER) -> Recipe:
    """A recipe with the hyper-parameters that an entry names as the options do."""
    names = (
        *("residual", "num_embeddings", "fdm_alpha", "flow_arch", "coupling_layers", "clamp_alpha"),
        *("pos_beta", "margin_tau", "bgspp_lambda", "flow_batch", "lr", "weight_decay", "legacy_zero_grad"),
        *("first_stage_epochs", "feature_levels"),
    )
    given = {name: entry[name] for name in names if name in entry}
    if entry["pos_embed_dim"]:
        given["pos_embed_dim"] = entry["pos_embed_dim"]
    return replace(base, **given)


@pytest.mark.usefixtures("device")
def test_flow(golden) -> None:
    file = golden("flow")
    values: dict[str, Any] = {}
    for letter, entry in file.entry["flows"].items():
        channels, blocks, clamp = entry["channels"], entry["coupling_layers"], entry["clamp_alpha"]
        condition = entry["pos_embed_dim"]
        flow = Flow(channels, blocks, condition, clamp, torch.Generator())
        flow.load_state_dict(file.state(f"flow.{letter}."))
        (name,) = entry["inputs"]
        x = file.input(name).requires_grad_()
        codes = Codes.of(condition, *entry["grid"]) if condition else None
        cells = torch.arange(len(x)) if condition else None
        z, log_det = flow(x, codes, cells)
        normal, anomalous = log_likelihoods(z, log_det)
        F.softplus(-normal).mean().backward()
        first = flow.module_list[0]
        got = {
            "z": z[:, : entry["z_columns"]],
            "z.stats": statistics(z),
            "log_det": log_det,
            "logp_over_c": normal,
            "logp_a": anomalous,
            "grad_x.stats": statistics(x.grad),
            "grad_scale0": first.global_scale.grad,
            "grad_subnet_bias0": first.subnet[0].bias.grad[: entry.get("grad_subnet_bias_entries", 0)],
        }
        values |= {f"{letter}.{array}": got[array] for array in entry["arrays"]}
        values[f"{letter}.hyper"] = np.array([channels, blocks, clamp, condition])
    for entry in file.entry["position_codes"]:
        codes = position_codes(entry["channels"], entry["height"], entry["width"])
        values[entry["array"]] = codes.T.reshape(entry["channels"], entry["height"], entry["width"])
    file.check_all(values)


@pytest.mark.usefixtures("device")
def test_losses(golden) -> None:
    file = golden("losses")
    entry, stored = file.entry, file.stored
    values: dict[str, Any] = {}

    def mask_of(name: str | None) -> Tensor:
        return torch.zeros(entry["rows"], dtype=torch.bool) if name is None else stored(name) > 0

    for case in entry["occ"]:
        rows = stored(case["features"]).clone().requires_grad_()
        target = None if case["target"] is None else stored(case["target"])
        loss = losses.constraint_loss(rows, mask_of(case["mask"]), target)
        loss.total.backward()
        values[case["array"]] = torch.stack([loss.total, loss.normal, loss.anomalous])
        values[f"{case['array']}.grad"] = rows.grad
    for case in entry["orthogonal"]:
        rows = stored(case["features"]).clone().requires_grad_()
        loss = losses.constraint_loss(rows, mask_of(case["mask"]), None, orthogonal=True).orthogonal
        loss.backward()
        values |= {case["array"]: loss, f"{case['array']}.grad": rows.grad}

    z, log_det, mask = stored("z"), stored("log_det"), mask_of("mask")
    normal, anomalous = log_likelihoods(z, log_det)
    values |= {entry["logp"]["normal"]: normal, entry["logp"]["anomaly"]: anomalous}
    for case in entry["normal_boundaries"]:
        values[case["array"]] = losses.normal_boundary(normal, mask, case["pos_beta"])

    def boundary_of(case: Mapping[str, Any]) -> float | None:
        given = case["normal_boundary"]
        return float(file.arrays[given]) if isinstance(given, str) else given

    for case in entry["bg_spp"]:
        pair = losses.contrast(normal, mask, boundary_of(case), case["margin_tau"])
        values[case["array"]] = torch.stack(pair)
    for case in entry["focal"]:
        values[case["array"]] = losses.focal(normal, anomalous, mask_of(case["mask"]))
    nothing = mask_of(None)
    for case in entry["stage1"]:
        log_sigmoid = losses.FlowLoss(log_sigmoid=True, margin_tau=0.1, contrast_weight=1.0)
        values[case["array"]] = log_sigmoid(z, log_det, nothing, None)
    for case in entry["flow_loss"]:
        plain = losses.FlowLoss(log_sigmoid=False, margin_tau=case["margin_tau"] or 0.0, contrast_weight=1.0)
        rows = z.clone().requires_grad_()
        loss = plain(rows, log_det, mask_of(case["mask"]), boundary_of(case))
        values[case["array"]] = loss
        if case["grad"]:
            loss.backward()
            values[case["grad"]] = rows.grad
    for case in entry["boundary_average"]:
        average = losses.RunningBoundaries(case["levels"])
        assert average.MOMENTUM == case["momentum"]
        history = []
        for level, value in case["updates"]:
            average.update(level, value)
            history.append(list(average.values))
        values[case["array"]] = np.array(history)

    quantiser = VectorQuantiser(entry["vq"]["num_embeddings"], entry["vq"]["channels"])
    quantiser.load_state_dict({"embedding.weight": stored("vq.embedding")})
    torch.testing.assert_close(stored("vq.embedding"), file.state("loss.vq.")["embedding.weight"])
    maps = stored("vq.z")
    normal_rows = as_rows(maps)[~(stored("vq.mask").flatten() > 0)]
    loss, _ = quantiser.loss(normal_rows)
    loss.backward()
    values |= {
        "vq.loss": loss,
        "vq.grad_embedding": quantiser.embedding.weight.grad,
        "vq.index": quantiser.nearest(normal_rows),
        "vq.quantised": as_maps(quantiser(as_rows(maps)), maps),
    }
    for case in entry["match"]:
        maps, given = stored(case["feature"]), case["references"]
        if case["classes"] is None:
            values[case["array"]] = match(maps, ReferenceRows.of(stored(given)))
        else:
            rows = {name: ReferenceRows.of(stored(array)) for name, array in given.items()}
            values[case["array"]] = match_classes(maps, case["classes"], rows)
    for case in entry["residual"]:
        values[case["array"]] = residual(stored(case["feature"]), stored(case["matched"]), case["kind"])
    for case in entry["efdm"]:
        source = stored(case["source"])
        values[case["array"]] = match_distribution(stored(case["feature"]), source, case["fdm_alpha"])
    file.check_all(values)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(
    "name",
    [
        "train_stage2",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("train_stage1", "train_stage2_legacy", "train_imagebind")
        ),
    ],
)
def test_train(golden, name: str) -> None:
    file = golden(name)
    entry = file.entry
    is_imagebind = entry["variant"] == "imagebind"
    recipe = recipe_of(entry, IMAGEBIND if is_imagebind else PAPER)
    model = ResAD(entry["channels"], recipe)
    model.load_state_dict(file.state())
    model.train()
    optimisers = Optimisers(model, recipe)
    boundaries = losses.RunningBoundaries(entry["feature_levels"])
    scale = entry["input_scale"]
    references = {
        category: [ReferenceRows.of(scale * file.input(array)) for array in names]
        for category, names in entry["references"].items()
    }
    orders = iter(
        torch.as_tensor(file.arrays[entry["permutations"]["values"]])
        .long()
        .split(file.arrays[entry["permutations"]["lengths"]].tolist())
    )
    log: dict[str, list] = {key: [] for key in ("vq", "constraintor", "parts", "flow", "updates", "boundary")}
    for step in entry["steps"]:
        masks = torch.zeros(entry["batch_size"], entry["mask_size"], entry["mask_size"], dtype=torch.bool)
        for mask, box in zip(masks, step["boxes"], strict=True):
            if box is not None:
                mask[box[0] : box[1], box[2] : box[3]] = True
        residuals, levels = [], []
        for level, array in enumerate(step["features"]):
            maps = scale * file.input(array)
            size = (maps.shape[2], maps.shape[3])
            inside = F.interpolate(masks[:, None].float(), size, mode=entry["defect_mask"]["mode"])
            maps = torch.where(inside > 0, entry["defect_gain"] * maps, maps)
            rows = {category: parts[level] for category, parts in references.items()}
            residuals.append(residual(maps, match_classes(maps, step["classes"], rows), recipe.residual))
            levels.append(level_mask(masks, size, imagebind=is_imagebind))
        done = update(
            model,
            residuals,
            levels,
            optimisers,
            boundaries,
            recipe,
            Accelerator(cpu=True),
            second_stage=step["epoch"] >= entry["first_stage_epochs"],
            permute=lambda rows, device: next(orders),
        )
        log["vq"].append(done.quantiser)
        log["constraintor"].append(done.constraint_total)
        log["parts"].append(
            [
                [part.normal + part.anomalous, part.normal, part.anomalous]
                + ([part.orthogonal] if entry["orthogonal_regulariser"] else [])
                for part in done.constraint
            ]
        )
        log["flow"].append(sum(done.flows))
        log["updates"].append(len(done.flows))
        log["boundary"].append(list(boundaries.values))
    assert next(orders, None) is None
    state = model.state_dict()
    file.check_all(
        {
            "loss.vq": np.array(log["vq"]),
            "loss.constraintor": np.array(log["constraintor"]),
            "loss.constraintor.parts": np.array(log["parts"]),
            "loss.flow_sum": np.array(log["flow"]),
            "flow_updates": np.array(log["updates"]),
            "boundary": np.array(log["boundary"]),
        }
        | {f"after.{key}": statistics(state[key]) for key in entry["after"]}
    )


@pytest.mark.usefixtures("device")
def test_imagebind_tower(golden) -> None:
    file = golden("imagebind_vision_small")
    entry = file.entry
    tower = ImageTower(entry["width"], entry["blocks"], entry["heads"], entry["out_embed_dim"])
    tower.load(file.state("imagebind."), "golden")
    (image,) = entry["inputs"]
    maps = ImageBindFeatures("random", tower, entry["layers"])(file.input(image))
    tokens = dict(zip(entry["layers"], maps, strict=True))
    values = {
        case["array"]: as_rows(tokens[case["after_block"]])[:: case["row_step"]] for case in entry["tokens"]
    }
    values[entry["embedding"]] = tower.embed(file.input(image))
    values["hyper"] = np.array([entry["width"], entry["blocks"], entry["heads"], *entry["layers"]])
    assert tuple(maps[0].shape[2:]) == tuple(entry["grid"])
    file.check_all(values)


NEAR_TIE = 1e-5
"""Relative gap of two residuals whose order the rounding of another machine's convolutions may turn round."""


def order_slack(residuals: Tensor, quantised: Tensor, layer: nn.Module, fdm_alpha: float) -> Tensor:
    """How far the constrained features may move if near-tied residuals swap their places.

    Distribution matching gives the two of a swapped pair each other's value: (1 - alpha) times the gap of the
    quantised ones. Through the convolution that is at most the same with absolute weights.
    """
    ordered, places = residuals.flatten(2).sort(dim=2)
    wanted = quantised.flatten(2).sort(dim=2).values
    gap = ordered.diff(dim=2)
    near = (gap > 0) & (gap < NEAR_TIE * (1 + ordered[..., 1:]))
    moved = torch.where(near, (1 - fdm_alpha) * wanted.diff(dim=2).abs() + gap, 0.0)
    change = F.pad(moved, (0, 1)) + F.pad(moved, (1, 0))
    spread = torch.empty_like(change).scatter_(2, places, change).reshape(residuals.shape)
    scale = layer.bn.weight / (layer.bn.running_var + layer.bn.eps).sqrt()
    return F.conv2d(spread, (layer.conv.weight * scale[:, None, None, None]).abs(), padding=1)


@pytest.mark.usefixtures("device")
def test_end_to_end(golden) -> None:
    file = golden("end_to_end")
    entry = file.entry
    recipe = recipe_of(entry)
    trunk = create_trunk(entry["arch"], None).eval()
    trunk.load_state_dict(file.state("encoder."))
    model = ResAD(entry["channels"], recipe).eval()
    model.load_state_dict(
        {name: value for name, value in file.state().items() if not name.startswith("encoder.")}
    )

    pictures = {name: file.input(name) for name in entry["inputs"]}
    (reference, noise) = (pictures[name] for name in list(entry["inputs"])[:2])
    masks, tests = torch.zeros(entry["n_test"], *noise.shape[2:], dtype=torch.bool), []
    for place, made in enumerate(entry["test_images"]):
        image = reference[made["reference"]] + made["noise"] * noise[place]
        if made["box"] is not None:
            top, bottom, left, right = made["box"]
            image[:, top:bottom, left:right] += pictures[made["defect"]]
            masks[place, top:bottom, left:right] = True
        tests.append(image)
    images = torch.stack(tests)
    np.testing.assert_array_equal(masks[:, None].numpy(), file.arrays["mask"] > 0)
    np.testing.assert_array_equal([made["label"] for made in entry["test_images"]], file.arrays["label"])

    values: dict[str, Any] = {entry["input_checksum"]: statistics(images)}
    with torch.no_grad():
        features, known = trunk(images), trunk(reference)
        rows = [ReferenceRows.of(as_rows(level)) for level in known]
        residuals = [
            residual(maps, match(maps, level), recipe.residual)
            for maps, level in zip(features, rows, strict=True)
        ]
        matched = model.matched(residuals)
        constrained = model.constraintor(matched)
        scores = model.estimate(constrained)
        for level, maps in enumerate(features):
            number = level + 1
            stages = {"feature": maps, "residual": residuals[level], "efdm": matched[level]}
            for name, stage in stages.items():
                shown = entry["slices"][name]
                values[f"{name}.layer{number}.stats"] = statistics(stage)
                part = stage[shown["image"], : shown["channels"]]
                values[f"{name}.layer{number}.image{shown['image']}"] = part
            layer = model.constraintor.get_submodule(f"l{number}_proj")
            codes = as_maps(model.vq_ops[level](as_rows(residuals[level])), residuals[level])
            slack = order_slack(residuals[level], codes, layer, recipe.fdm_alpha)
            shown = entry["slices"]["constrained"]
            place = f"constrained.layer{number}.image{shown['image']}"
            part = (shown["image"], slice(shown["channels"]))
            file.check(place, constrained[level][part], slack[part])
            summary = statistics(slack)
            summary[1] = summary[0]  # a deviation moves by no more than the values do on average
            file.check(f"constrained.layer{number}.stats", statistics(constrained[level]), summary)
            values[f"reference.layer{number}.stats"] = statistics(rows[level].rows)
            values[f"match.index.layer{number}"] = nearest(
                F.normalize(as_rows(maps), dim=1), rows[level].unit
            )[0]
            values[f"vq.index.layer{number}"] = model.vq_ops[level].nearest(as_rows(residuals[level]))
            values[f"logp.layer{number}"] = scores[level].normal
            values[f"abnormal_probability.layer{number}"] = scores[level].probability

    size = (entry["image_size"], entry["image_size"])
    normal = [level.normal for level in scores]
    scale = ScoreRange.of(normal, size)
    logps = likelihood_map(normal, size, scale)
    bscores = probability_map([level.probability for level in scores], size)
    merged = merged_map(scores, size, scale)
    values |= {"map.logps": logps, "map.bscores": bscores, "map.merged": merged}
    assert entry["topk"] == 1
    values["image_score"] = max_score(merged)
    labels = file.arrays["label"]
    for name, kind in (("scores1", "logps"), ("scores2", "bscores"), ("scores", "merged")):
        # From the stored maps: many pixels differ by less than 1e-7, so rounding decides their order.
        maps = file.stored(f"map.{kind}")
        result = resad_metrics(maps.numpy(), masks.numpy(), max_score(maps).numpy(), labels)
        values[f"metrics.{name}"] = np.array(astuple(result))
    file.check_all(values)


def best_over_top_k(maps: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The reference's unused mode, tuned on the test set: each metric's best over numbers of pixels."""
    flat = np.sort(maps.reshape(len(maps), -1), axis=1)[:, ::-1]
    counts = [1, 100, *(int(flat.shape[1] * share) for share in np.arange(0.01, 0.41, 0.01))]
    rows = [
        astuple(resad_metrics(maps, masks, flat[:, :count].astype(np.float64).mean(axis=1), labels))
        for count in counts
    ]
    return np.max(rows, axis=0)


def test_metrics(golden) -> None:
    file = golden("metrics")
    entry, arrays = file.entry, file.arrays
    size = (entry["size"], entry["size"])
    values: dict[str, Any] = {}
    for case in entry["maps"]:
        levels = [file.stored(name) for name in case["levels"]]
        if case["kind"] == "logps":
            values[case["array"]] = likelihood_map(levels, size, ScoreRange.of(levels, size))
        else:
            values[case["array"]] = probability_map(levels, size)
    scores, masks, labels = arrays["score"], arrays["mask"], arrays["label"]
    highest = scores.reshape(len(scores), -1).max(axis=1)
    for case in entry["metric_rows"]:
        if case["only_max_value"]:
            given = case["aupro"] is not None
            values[case["array"]] = np.array(
                astuple(resad_metrics(scores, masks, highest, labels, with_aupro=given))
            )
        else:
            values[case["array"]] = best_over_top_k(scores, masks, labels)
    for case in entry["aupro"]:
        values[case["array"]] = resad_aupro(scores, masks, steps=case["steps"], fpr_limit=case["limit"])
    for case in entry["image_scores"]:
        top = np.sort(scores.reshape(len(scores), -1), axis=1)[:, ::-1][:, : case["topk"]]
        values[case["array"]] = top.mean(axis=1)

    cpr = entry["cpr"]
    words = {
        name: word_map(file.input(name)[0], file.input(cpr["center"]))
        for name in {case[side] for case in cpr["distances"] for side in ("test", "train")}
    }
    bags = {name: histograms(words[name], cpr["clusters"], cpr["grid"]) for name in words}
    values |= {cpr["map"]: words[cpr["feature"]], cpr["histograms"]: bags[cpr["feature"]]}
    for case in cpr["distances"]:
        test, train = (bags[case[side]] + case["smoothing"] for side in ("test", "train"))
        test, train = (bag / bag.sum(axis=1, keepdims=True) for bag in (test, train))
        values[case["array"]] = distance(test, train, cpr["tau"])
    file.check_all(values)


def test_preprocess(golden, tmp_path: Path) -> None:
    file = golden("preprocess")
    entry = file.entry
    values: dict[str, Any] = {}
    base = Preprocess(
        image_size=entry["resize"],
        crop_size=entry["crop"],
        fit="short_side",
        interpolation=entry["interpolation"],
    )
    assert (base.image_size, base.size, base.interpolation) == (
        *(make_preprocess(PAPER).image_size, make_preprocess(PAPER).size),
        make_preprocess(PAPER).interpolation,
    )
    for case in entry["images"]:
        picture, grey = file.arrays[case["image"]], case["grey_channel"]
        path = tmp_path / f"{case['array']}.png"
        Image.fromarray(picture if grey is None else picture[..., grey]).save(path)
        preprocess = replace(base, mean=case["mean"], std=case["std"])
        image = normalise(preprocess.pixels(path)[None], preprocess)[0]
        step = case["slice_step"]
        values[f"{case['array']}.slice"] = image[:, ::step, ::step]
        values[f"{case['array']}.stats"] = statistics(image)
    for case in entry["masks"]:
        path = tmp_path / f"{case['mask']}.png"
        Image.fromarray(file.arrays[case["mask"]]).save(path)
        Image.fromarray(np.zeros((*file.arrays[case["mask"]].shape, 3), np.uint8)).save(
            tmp_path / "image.png"
        )
        values[case["array"]] = base.mask(Record(tmp_path / "image.png", "part", 1, mask=path))[None]
    for case in entry["level_masks"]:
        mask = torch.as_tensor(np.asarray(values[case["from"]]))
        size = (case["size"], case["size"])
        values[case["array"]] = level_mask(mask, size, imagebind=case["mode"] == "bilinear")[0]
    file.check_all(values)


def test_dataset_lists(golden, tmp_path: Path) -> None:
    """The lists of a tree; VisA's CSV is read by `ad prepare`, and has its test there."""
    file = golden("datasets")
    for name, about in file.entry["trees"].items():
        tree = file.arrays[name]
        assert about["class"] == tree["class"]
        dataset = ALIASES.get(about["dataset"], about["dataset"])
        if dataset not in DATASETS or about["extra_files"]:
            continue
        root = tmp_path / name / (DATASETS[dataset].folder or dataset)
        listed = [
            path for phase in about["phases"] for row in tree[phase] for path in (row[0], row[2]) if path
        ]
        for path in {*tree["files"], *listed}:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        split = load_records(dataset, tmp_path / name, about["class"])
        for phase, records in (("train", split.train), ("test", split.test)):
            got = sorted(
                (
                    str(record.image.relative_to(root)),
                    record.label,
                    record.mask and str(record.mask.relative_to(root)),
                )
                for record in records
            )
            assert got == sorted((path, label, mask) for path, label, mask in tree[phase]), (name, phase)


def test_reports(golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What charts look like is tested elsewhere: here their names count.
    monkeypatch.setattr(charts, "bar_chart", lambda path, *_: path.touch())
    file = golden("reports")
    entry, stored = file.entry, file.arrays
    setting = entry["setting"]
    assert list(entry["columns"]) == [NAME, *SHOT_COLUMNS]
    for shots in entry["shots"]:
        folder = shot_folder(tmp_path, setting, shots)
        assert folder.name == entry["folder"].format(setting=setting, shot=shots)
        for epoch in entry["epochs"][str(shots)]:
            rows = stored["metrics"][f"{shots}/{epoch}"]
            assert len(rows) == entry["n_classes"]
            results = {
                row[NAME]: ResADResult(
                    *(row["Image AUC"], 0.0, row["Image F1"]),
                    *(row["Pixel AUC"], 0.0, row["Pixel F1"], float(row["Pixel AUPRO"])),
                )
                for row in rows
            }
            table = folder / f"{epoch_stem(setting, epoch, shots)}_metrics.csv"
            table.parent.mkdir(exist_ok=True)
            table.write_text(table_text(results, SHOT_COLUMNS))
            assert table.read_text() == stored["csv"][f"{shots}/{epoch}"]
            write_charts(table, epoch_stem(setting, epoch, shots), SHOT_COLUMNS, "")
        names = sorted(path.name for path in folder.iterdir())
        assert names == sorted(name for name in stored["files"][str(shots)] if not name.endswith(".pth"))
        newest = max(entry["epochs"][str(shots)])
        assert latest_table(folder).name == f"{epoch_stem(setting, newest, shots)}_metrics.csv"
        # Ours takes the highest epoch; the means of the reference are of the file that it picks.
        table = read_table(folder / stored["reference_picks"][str(shots)])
        place = entry["shots"].index(shots)
        for group in ("mvtec", "visa"):
            for kind, name in (("img", "Image AUC"), ("pix", "Pixel AUC")):
                found = column(table, name)
                chosen = [
                    value
                    for category, value in found.items()
                    if (category in DATASETS["mvtec"].categories) == (group == "mvtec")
                ]
                expected = stored["reference_shot_means"][f"{group}_{kind}"][place]
                assert (np.mean(chosen) if chosen else None) == (
                    pytest.approx(expected, abs=1e-9) if expected is not None else None
                )
    for case in entry["order"]:
        stem = epoch_stem(setting, case["epoch"], case["shot"])
        table = read_table(shot_folder(tmp_path, setting, case["shot"]) / f"{stem}_metrics.csv")
        ordered = ranking(column(table, case["metric"]))
        assert ordered == stored[case["key"]]
        assert ordered[-case["worst"] :] == stored[case["worst_key"]]


def test_shapes(golden) -> None:
    """Every entry of the full-size checkpoints, by name and shape."""
    file = golden("shapes")
    for about in file.entry["models"]:
        expected: Any = file.arrays
        for key in about["path"]:
            expected = expected[key]
        with torch.device("meta"):
            if "arch" in about:
                trunk = create_trunk(about["arch"], None)
                got: Any = {name: list(value.shape) for name, value in trunk.state_dict().items()}
                assert got == expected
                continue
            base = IMAGEBIND if about["variant"] == "imagebind" else PAPER
            fields = ("flow_arch", "coupling_layers", "clamp_alpha", "num_embeddings")
            recipe = replace(base, **{name: about[name] for name in fields})
            model = ResAD(about["channels"], recipe)
        for part in ("vq_ops", "constraintor"):
            state = getattr(model, part).state_dict()
            assert {name: list(value.shape) for name, value in state.items()} == expected[part]
        for flow, shapes in zip(model.estimators, expected["estimators"], strict=True):
            assert {name: list(value.shape) for name, value in flow.state_dict().items()} == shapes


def test_published_references(golden) -> None:
    file = golden("published_references")
    packaged = json.loads(files("resad.compat").joinpath("published_references.json").read_text())
    assert packaged == file.arrays
    assert {shots: sorted(table) for shots, table in packaged.items()} == file.entry["shots"]
    for table in packaged.values():
        for dataset, categories in table.items():
            assert set(categories) <= set(DATASETS[ALIASES.get(dataset, dataset)].categories)
