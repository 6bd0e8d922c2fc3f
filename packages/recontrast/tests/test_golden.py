"""Parity with the reference implementation on golden files; what varies comes from their meta.json.

Longer than other test files because one command must run every kind of golden file of the method.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from adcommon.data.normalise import normalise
from adcommon.data.prepare import aptos
from adcommon.data.prepare.visa import builtin_split
from adcommon.data.preprocess import Preprocess
from adcommon.metrics import auroc, average_precision
from adcommon.models.anomaly_maps import (
    cosine_distance,
    gaussian_blur,
    kernel_blur,
    max_score,
    mean_score,
    top_fraction_score,
    upsample,
)
from adcommon.models.backbones import create_trunk
from adcommon.models.outline import Undrawn
from adcommon.results import pictures as visualise
from adcommon.testing.golden import GoldenFile, GoldenFolder, golden_cases, golden_folder, kinds_read
from adcommon.types.records import Record
from recontrast.compat.official import load_official
from recontrast.detector import ReContrastDetector, combine
from recontrast.losses import (
    criterion_of,
    global_cosine,
    mined_cosine,
    mining_alpha,
    recontrast_loss,
    region_cosine,
)
from recontrast.metrics import (
    recontrast_aupro,
    recontrast_aupro_per_image,
    recontrast_aupro_pooled,
    recontrast_best_f1,
)
from recontrast.model import ReContrast, distance_maps
from recontrast.network.partial_norm import PartialNorm
from recontrast.optimiser import holds_encoder, make_optimiser, reset, resets_optimiser, update
from recontrast.recipes import RECIPES

PRECISIONS = {"float32": "", "float64": "_f64"}
"""How the names of values end that are computed in it."""
DRIFT = 2.0
"""Without AVX2 a float32 trajectory was seen to drift 1.07 times as far as its eighth step may."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    files = golden_folder(metafunc.config, Path(__file__)).files
    trainings = {name: entry for name, entry in files.items() if entry["kind"] == "train"}
    wide = [name for name, entry in trainings.items() if entry["backbone"].startswith("wide")]
    followed = {
        entry["mode"]: name
        for name, entry in trainings.items()
        if name not in wide and has_the_papers_mining(entry)
    }.values()
    if "followed" in metafunc.fixturenames:
        # One of them in every run, the one whose norms train; the others with the slow tests.
        first, *others = sorted(followed, key=lambda name: "bntrain" not in name)
        metafunc.parametrize("followed", [first, *(pytest.param(o, marks=pytest.mark.slow) for o in others)])
    elif "precision" in metafunc.fixturenames:
        # Steps in float64, or of a wide ResNet, take seconds: they run when golden files are asked for.
        left_out = {(name, precision) for name in wide for precision in PRECISIONS}
        left_out |= {(name, "float64") for name in trainings}
        if metafunc.config.getoption("--golden-root"):
            left_out = set()
        cases = [(name, precision) for name in trainings for precision in PRECISIONS]
        marked = [pytest.param(*case, marks=pytest.mark.slow if case in left_out else ()) for case in cases]
        metafunc.parametrize(("file", "precision"), marked, indirect=["file"])
    else:
        # A wide ResNet is read with ReLU, and GELU in a narrow one; both together when files are asked for.
        asked = metafunc.config.getoption("--golden-root") is not None
        golden_cases(metafunc, lambda folder, name: not asked and is_wide_gelu(folder.files[name]))


def is_wide_gelu(entry: dict) -> bool:
    return (entry.get("backbone"), entry.get("decoder_activation")) == ("wide_resnet50_2", "gelu")


def has_the_papers_mining(entry: dict) -> bool:
    """True where hard mining has the values that are no recipe field."""
    return (entry["alpha_start"], entry["alpha_end"], entry["hard_mining_factor"]) == (-3, 1, 0)


@pytest.fixture
def build(folder: GoldenFolder):
    """The model that an entry describes, with seeded weights (float32)."""

    def build(entry: dict) -> ReContrast:
        trained, frozen = entry["encoder_norm"], entry["encoder_freeze_norm"]
        with Undrawn():
            encoder = create_trunk(entry["backbone"], None)
        for norm in encoder.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.eps, norm.momentum = frozen["eps"], frozen["momentum"]
        with Undrawn():
            model = ReContrast(
                encoder,
                entry["backbone"],
                decoder_activation=entry["decoder_activation"],
                encoder_norm_train=entry.get("encoder_bn_train", False),
                partial_norm=trained["var_thresh"] if trained["type"] == "partial" else None,
                encoder_eps=trained["eps"],
            )
        state = folder.state(entry["state"])
        load_official(model, {name: torch.as_tensor(value) for name, value in state.items()})
        return model

    return build


def test_every_listed_file_has_a_reader(folder: GoldenFolder) -> None:
    assert folder.without_reader(kinds_read(Path(__file__))) == []


def summed(distances: list[Tensor], size: int) -> Tensor:
    return sum(upsample(distance, size, align_corners=True).double() for distance in distances)


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_forward(file: GoldenFile, build) -> None:
    entry = file.entry
    size, fraction = entry["map"]["out_size"], entry["top_fraction"]
    values: dict[str, object] = {}
    model, images = build(entry).eval(), torch.as_tensor(file.input(entry["inputs"]["image"]))
    for precision, suffix in PRECISIONS.items():
        dtype = getattr(torch, precision)
        outputs = model.to(dtype)(images.to(dtype))
        distances = distance_maps(outputs)
        total, mean = (combine(distances, (size, size), protocol) for protocol in ("sum", "mean"))
        values |= {
            f"map_sum{suffix}": summed(distances, size),
            f"map_sum_smoothed{suffix}": total,
            f"score_max{suffix}": max_score(total),
            f"score_top1pct{suffix}": top_fraction_score(total, fraction),
            f"score_mean{suffix}": mean_score(total),
            f"mapmean{suffix}": summed(distances, size) / len(distances),
            f"mapmean_smoothed5{suffix}": mean,
            f"batch_score_max{suffix}": max_score(mean),
            f"batch_score_top1pct{suffix}": top_fraction_score(mean, fraction),
        }
        for i, (target, reconstruction) in enumerate(outputs.pairs()):
            values[f"dist{i}{suffix}"] = distances[i]
            for name, features in ((f"en{i}", target), (f"de{i}", reconstruction)):
                statistics = torch.stack([features.mean(), features.std(), features.abs().max()])
                values |= {
                    f"{name}_first8ch{suffix}": features[:, : entry["first_channels"]],
                    f"{name}_stats{suffix}": statistics,
                    f"{name}_shape{suffix}": features.shape,
                }
    with file:
        file.check_all(values)


@pytest.mark.usefixtures("device")
def test_losses(file: GoldenFile) -> None:
    pairs = file.entry["pairs"]
    values: dict[str, object] = {}
    for precision, suffix in PRECISIONS.items():
        dtype = getattr(torch, precision)

        def run(
            name: str, loss, suffix: str = suffix, dtype: torch.dtype = dtype, **options: object
        ) -> list[Tensor]:
            targets, rebuilt = (
                [torch.as_tensor(file[pair[side]]).to(dtype).requires_grad_() for pair in pairs]
                for side in ("target", "reconstruction")
            )
            value = loss(targets, rebuilt, **options)
            value.backward()
            values[f"{name}{suffix}"] = value
            for pair, target, reconstruction in zip(pairs, targets, rebuilt, strict=True):
                values[f"{name}_grad_{pair['target']}{suffix}"] = target.grad
                values[f"{name}_grad_{pair['reconstruction']}{suffix}"] = reconstruction.grad
            return [reconstruction.grad for reconstruction in rebuilt]

        run("global_cosine", global_cosine)
        run("global_cosine_nostop", global_cosine, stop_gradient=False)
        run("region_cosine", region_cosine)
        for case in file.entry["hard_mining"]:
            prefix, options = case["prefix"], {"alpha": float(case["alpha"]), "factor": float(case["factor"])}
            gradients = run(prefix, mined_cosine, **options)
            values[f"{prefix}_loss{suffix}"] = values[f"{prefix}{suffix}"]
            values[f"{prefix}_kept_fraction"] = [
                float((gradient != 0).any(dim=1).double().mean()) for gradient in gradients
            ]
    with file:
        file.check_all(values)


def limits(entry: dict) -> dict[str, float]:
    return {"start": float(entry["alpha_start"]), "end": float(entry["alpha_end"])}


def train_as_the_reference(file: GoldenFile, model: ReContrast) -> dict[str, object]:
    """The reference's loop, its counters taken literally; ours are closed formulas."""
    entry, dtype = file.entry, next(model.parameters()).dtype
    optimisers = [
        torch.optim.AdamW(
            [
                {
                    "params": [p for m in group["modules"] for p in getattr(model, m).parameters()],
                    "lr": group["lr"],
                }
                for group in given["groups"]
            ],
            betas=given["betas"],
            weight_decay=given["weight_decay"],
            eps=given["eps"],
            amsgrad=given["amsgrad"],
        )
        for given in entry["optimizers"]
    ]
    schedule, stable = entry["scheduler"], entry["stable"]
    scheduler = schedule and torch.optim.lr_scheduler.MultiStepLR(
        optimisers[schedule["applies_to_optimizer"]], schedule["milestones"], schedule["factor"]
    )
    counter = stable["counter_start"] if stable else 0
    rows: dict[str, list] = {
        name: [] for name in ("loss", "frozen", "trained", "alpha", "stepped", "lr", "distance")
    }
    norms: dict[str, float] = {}

    model.train()
    for iteration in range(entry["steps"]):
        images = torch.as_tensor(file.input(entry["inputs"][iteration])).to(dtype)
        alpha = mining_alpha(iteration, entry["total_iters"], float(entry["ramp"]), **limits(entry))
        factor = float(entry["hard_mining_factor"])
        outputs = model(images)
        loss = recontrast_loss(outputs, alpha, factor=factor)
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        if iteration == 0:
            norms = gradient_norms(model)
        steps_encoder = stable is None or counter >= stable["pause"]
        optimisers[0].step()
        if steps_encoder:
            for optimiser in optimisers[1:]:
                optimiser.step()
        if scheduler:
            scheduler.step()
        rows["loss"].append(float(loss.detach()))
        rows["frozen"].append(float(global_cosine(outputs.frozen_features, outputs.from_trained).detach()))
        rows["trained"].append(float(global_cosine(outputs.trained_features, outputs.from_frozen).detach()))
        rows["alpha"].append(alpha)
        rows["stepped"].append(steps_encoder)
        rows["lr"].append([group["lr"] for group in optimisers[0].param_groups])
        rows["distance"].append([float(distance.detach().mean()) for distance in distance_maps(outputs)])
        if stable:
            if (iteration + 1) % stable["reset_every"] == 0:
                optimisers[0].state.clear()
                counter = 0 if stable["reset_sets_counter_to_zero"] else counter
            counter += counter < stable["pause"]
    return {
        "loss": rows["loss"],
        "loss_frozen_target": rows["frozen"],
        "loss_trained_target": rows["trained"],
        "alpha": rows["alpha"],
        "encoder_stepped": rows["stepped"],
        "lr_after_step": rows["lr"],
        "mean_point_distance": rows["distance"],
        "grad_norm_step0": [norms[name] for name in file["grad_names"]],
    }


def gradient_norms(model: ReContrast) -> dict[str, float]:
    """Norm of each parameter's gradient; -1 where it has none."""
    return {
        name: -1.0 if parameter.grad is None else float(parameter.grad.double().norm())
        for name, parameter in model.named_parameters()
    }


@torch.no_grad()
def summary(values: Tensor) -> list[float]:
    """Mean, standard deviation, norm and first four values, as golden files store a parameter."""
    flat = values.detach().double().flatten()
    deviation = float(flat.std()) if len(flat) > 1 else 0.0
    first = [float(value) for value in flat[:4]] + [float("nan")] * (4 - len(flat[:4]))
    return [float(flat.mean()), deviation, float(flat.norm()), *first]


@pytest.mark.usefixtures("device")
def test_train(file: GoldenFile, build, precision: str) -> None:
    entry, suffix, dtype = file.entry, PRECISIONS[precision], getattr(torch, precision)
    file.drift = DRIFT
    model = build(entry).to(dtype)
    values = train_as_the_reference(file, model)
    state = model.state_dict()
    values |= {
        "checks": [summary(state[name]) for name in entry["check_names"]],
        "encoder_bn1_num_batches_tracked": state["encoder.bn1.num_batches_tracked"],
        "final_map": final_map(file, model),
    }
    for name in file.outputs():
        if name.endswith("_f64") == (precision == "float64"):
            file.check(name, values[name.removesuffix(suffix)])


@torch.no_grad()
def final_map(file: GoldenFile, model: ReContrast) -> Tensor:
    entry, dtype = file.entry, next(model.parameters()).dtype
    images = torch.as_tensor(file.input(entry["final_input"])[: entry["final_input"]["use_first"]])
    return summed(distance_maps(model.eval()(images.to(dtype))), entry["map"]["out_size"])[0]


@pytest.mark.usefixtures("device")
def test_the_commands_own_steps_follow_the_trajectories(folder: GoldenFolder, build, followed: str) -> None:
    """The functions that the training commands call, in float64."""
    file = folder.open(followed)
    entry, adam, stable = file.entry, file.entry["optimizers"][0], file.entry["stable"]
    lr = {
        name: given["lr"] for o in entry["optimizers"] for given in o["groups"] for name in given["modules"]
    }
    milestone = entry["scheduler"]["milestones"][0] if entry["scheduler"] else entry["total_iters"]
    pauses = stable and stable["reset_sets_counter_to_zero"]
    recipe = replace(
        RECIPES["mvtec"],
        iterations=entry["total_iters"],
        mining_ramp=float(entry["ramp"]),
        decoder_lr=lr["decoder"],
        encoder_lr=lr["encoder"],
        lr_milestone=(milestone + 0.5) / entry["total_iters"],
        lr_factor=entry["scheduler"]["factor"] if entry["scheduler"] else 1.0,
        adam_beta1=adam["betas"][0],
        adam_beta2=adam["betas"][1],
        adam_eps=adam["eps"],
        amsgrad=adam["amsgrad"],
        weight_decay=adam["weight_decay"],
        reset_every=stable["reset_every"] if stable else 0,
        encoder_pause=stable["pause"] - 1 if pauses else 0,
    )
    model, accelerator = build(entry).double().train(), Accelerator(cpu=True)
    optimiser, schedule = make_optimiser(model, recipe)
    losses, norms = [], {}
    for iteration, given in enumerate(entry["inputs"]):
        images = torch.as_tensor(file.input(given)).double()
        criterion = criterion_of(recipe, iteration)
        hold = holds_encoder(recipe, iteration)
        losses.append(float(update(model, images, optimiser, accelerator, criterion, hold_encoder=hold)))
        norms = norms or gradient_norms(model)
        schedule.step()
        if resets_optimiser(recipe, iteration):
            reset(optimiser)
    file.check("loss_f64", losses)
    file.check("grad_norm_step0_f64", [norms[name] for name in file["grad_names"]])
    state = model.state_dict()
    file.check("checks_f64", [summary(state[name]) for name in entry["check_names"]])
    file.check("final_map_f64", final_map(file, model))


@pytest.mark.usefixtures("device")
def test_partial_norm(file: GoldenFile) -> None:
    entry, values = file.entry, {}
    for precision, suffix in PRECISIONS.items():
        dtype = getattr(torch, precision)
        layer = PartialNorm(
            entry["channels"], entry["var_thresh"], eps=entry["eps"], momentum=entry["momentum"]
        )
        names = ("weight", "bias", "running_mean", "running_var")
        state = {name: torch.as_tensor(file[name]) for name in names}
        layer.load_state_dict(state | {"num_batches_tracked": torch.tensor(0)})
        layer.to(dtype)
        min_var = layer.pretrained_var.clamp(max=layer.var_threshold)
        for t, given in enumerate(entry["train_passes"]):
            x = torch.as_tensor(file[given["x"]]).to(dtype).requires_grad_()
            out = layer(x)
            (out * torch.as_tensor(file.input(given["upstream"])).to(dtype)).sum().backward()
            batch_var = x.detach().var(dim=(0, 2, 3))
            values |= {
                f"train_out{t}{suffix}": out,
                f"grad_x{t}{suffix}": x.grad,
                f"grad_w{t}{suffix}": layer.weight.grad,
                f"grad_b{t}{suffix}": layer.bias.grad,
                f"running_mean{t}{suffix}": layer.running_mean.clone(),
                f"running_var{t}{suffix}": layer.running_var.clone(),
                f"batch_var_unbiased{t}{suffix}": batch_var,
                f"uses_batch{t}{suffix}": batch_var > min_var,
            }
            layer.weight.grad, layer.bias.grad = None, None
        evaluated = layer.eval()(torch.as_tensor(file[entry["eval_input"]]).to(dtype))
        values |= {f"eval_out{suffix}": evaluated, f"min_var{suffix}": min_var}
        values["num_batches_tracked"] = layer.num_batches_tracked
    with file:
        file.check_all(values)


def test_init_stats(file: GoldenFile) -> None:
    with file:
        for given in file.entry["models"]:
            trunk = create_trunk(given["backbone"], None)
            torch.manual_seed(file.entry["seed"])
            getattr(torchvision.models, given["backbone"])()  # the reference's encoder is drawn first
            model = ReContrast(trunk, given["backbone"], decoder_activation=given["decoder_activation"])
            state = model.state_dict()
            file.check(given["stats"], [summary(state[name]) for name in file[given["names"]]])


def ranges(iterations: list[int]) -> list[list[int]]:
    """Sorted numbers as inclusive ranges."""
    starts = [i for i in iterations if i - 1 not in iterations]
    return [
        [start, end]
        for start, end in zip(starts, [i for i in iterations if i + 1 not in iterations], strict=True)
    ]


def test_schedules(file: GoldenFile, make_model, tmp_path: Path) -> None:
    stored = file.json()
    assert stored.keys() == {*file.entry["scripts"], "aptos_split"}
    check_aptos_split(file, tmp_path)
    for script, given in file.entry["scripts"].items():
        recipe = replace(RECIPES[script], iterations=given["total_iters"], mining_ramp=float(given["ramp"]))
        every = range(recipe.iterations)
        computed: dict[str, object] = {"total_iters": recipe.iterations}
        computed["alpha"] = {
            i: mining_alpha(int(i), recipe.iterations, recipe.mining_ramp, **limits(given))
            for i in stored[script]["alpha"]
        }
        if given["stable"]:
            rest = given["stable"]["pause"] - 1 if given["stable"]["reset_sets_counter_to_zero"] else 0
            recipe = replace(recipe, reset_every=given["stable"]["reset_every"], encoder_pause=rest)
            computed["encoder_step_skipped_ranges_inclusive"] = ranges(
                [i for i in every if holds_encoder(recipe, i)]
            )
            computed["decoder_state_reset_after_iteration"] = [
                i for i in every if resets_optimiser(recipe, i)
            ]
        if given["lr"]:
            recipe = replace(
                recipe,
                decoder_lr=given["lr"]["decoder"],
                encoder_lr=given["lr"]["encoder"],
                lr_milestone=(given["lr"]["milestones"][0] + 0.5) / recipe.iterations,
                lr_factor=given["lr"]["factor"],
            )
            optimiser, schedule = make_optimiser(make_model(), recipe)
            used = []
            for _ in every:
                used.append([group["lr"] for group in optimiser.param_groups])
                optimiser.step()
                schedule.step()
            computed["lr_used_at_iteration"] = {
                i: used[int(i)][::2] for i in stored[script]["lr_used_at_iteration"]
            }
        assert computed.keys() == stored[script].keys()
        for key, value in computed.items():
            content = stored[script][key]
            got, expected = (list(v.values()) if isinstance(v, dict) else v for v in (value, content))
            file.check(f"{script}.{key}", got, expected)


def check_aptos_split(file: GoldenFile, tmp_path: Path) -> None:
    given, stored = file.entry["aptos_split"], file.json()["aptos_split"]

    def order(normal: int, train: int) -> list[int]:
        """Positions of normal images in the prepared training set, then in the test set."""
        folder = tmp_path / str(normal)
        (folder / "train_images").mkdir(parents=True)
        for i in range(normal):
            (folder / "train_images" / f"{i}.png").touch()
        rows = ["id_code,diagnosis", *(f"{i},0" for i in range(normal))]
        (folder / "train.csv").write_text("\n".join(rows))
        plan = aptos.Aptos(train_images=train).plan(folder, folder / "out")
        return [int(Path(step.target).stem) for step in plan.steps]

    shuffled = order(given["n_normal"], given["train_is_first"])
    joined = ",".join(map(str, shuffled)).encode()
    computed = {
        "n_normal": len(shuffled),
        f"shuffled_first{given['first']}": shuffled[: given["first"]],
        "train_is_first": given["train_is_first"],
        "sha256_of_comma_joined_order": hashlib.sha256(joined).hexdigest(),
        f"shuffle_of_{given['small_n']}": order(given["small_n"], given["small_n"] // 2),
    }
    assert computed.keys() == stored.keys()
    for key, value in computed.items():
        file.check(f"aptos_split.{key}", value, stored[key])


def test_visa_splits(file: GoldenFile) -> None:
    rows = {name: builtin_split(name) for name in file.entry["splits"]}
    stored = file.json()
    assert list(stored) == file.entry["classes"]
    for category, content in stored.items():

        def numbers(split_type: str, anomalous: bool, *splits: str, category: str = category) -> list[int]:
            return [
                int(Path(row.image).stem)
                for row in rows[split_type]
                if (row.category, row.anomalous) == (category, anomalous) and row.split in splits
            ]

        for key, value in content.items():
            if key in ("n_normal", "n_anomaly", "normal_digits"):
                assert value == file.entry[key][category]
                counts = {len(numbers(name, key == "n_anomaly", "train", "test")) for name in rows}
                assert key == "normal_digits" or counts == {value}
                continue
            split_type, split, state = key.rsplit("_", 2)
            file.check(f"{category}.{key}", numbers(split_type, state == "anomaly", split), value)
        normal = [row for row in rows["1cls"] if row.category == category and not row.anomalous]
        assert {len(Path(row.image).stem) for row in normal} == {content["normal_digits"]}


def test_metrics(file: GoldenFile) -> None:
    entry, maps, masks = file.entry, file["maps"], file["masks"]
    pro, reduced = entry["pro"], torch.as_tensor(maps[[entry["reduced_map_index"]]])
    values: dict[str, object] = {
        "pro_per_image": recontrast_aupro_per_image(maps, masks)[entry["anomalous_images"]],
        "pro_mean_rounded": round(recontrast_aupro(maps, masks), pro["round"]),
        "auroc_px": auroc(maps, masks),
        "ap_px": average_precision(maps, masks),
        "top1pct_k": int(entry["top_fraction"] * reduced.numel()),
        "map0_max": max_score(reduced)[0],
        "map0_mean": mean_score(reduced)[0],
        "map0_top1pct": top_fraction_score(reduced, entry["top_fraction"])[0],
    }
    for name, steps in pro["pooled"].items():
        values[name] = recontrast_aupro_pooled(maps, masks, steps)
    for given in entry["image_scores"]:
        labels, scores = file[given["labels"]], file[given["scores"]]
        best = recontrast_best_f1(scores, labels)
        computed = {
            "auroc": auroc(scores, labels),
            "ap": average_precision(scores, labels),
            "best_threshold": best.threshold,
            "f1": best.f1,
            "accuracy": best.accuracy,
            "specificity": best.specificity,
        }
        values |= {given[key]: value for key, value in computed.items() if given[key] is not None}

    for given in entry["gaussian_of"]:
        array = file[given["input"]] if given["index"] is None else file[given["input"]][given["index"]]
        blurred = gaussian_blur(torch.as_tensor(array)[None], float(entry["gaussian"]["sigma"]))
        values[given["output"]] = blurred[0]
    kernel = {"size": entry["kernel"]["size"], "sigma_px": float(entry["kernel"]["sigma"])}
    impulse = torch.zeros(1, kernel["size"], kernel["size"])
    impulse[0, kernel["size"] // 2, kernel["size"] // 2] = 1
    small = file["small"]
    values["kernel5"] = kernel_blur(impulse, **kernel)[0]
    values["kernel5_of_small"] = kernel_blur(torch.as_tensor(small)[None].float(), **kernel)[0]

    heat_bgr = visualise.heat_map(small)[..., ::-1]
    values["minmax_of_small"] = (small - small.min()) / np.ptp(small)
    values["heatmap_bgr_of_small"] = heat_bgr
    values["jet_lut_bgr"] = visualise.jet(np.arange(256, dtype=np.uint8))[:, ::-1]
    values["overlay_out"] = visualise.reference_overlay(file["overlay_img"], heat_bgr)

    given = entry["feature_maps"]
    levels = [
        upsample(
            cosine_distance(torch.as_tensor(file[f"fs{i}"]), torch.as_tensor(file[f"ft{i}"])),
            given["out_size"],
            align_corners=given["align_corners"],
        )
        for i in range(given["levels"])
    ]
    stacked = torch.stack(levels)
    values["cal_map_sum_img0"] = stacked.double().sum(dim=0)[given["single_image_index"]]
    values["cal_map_mul_img0"] = stacked.double().prod(dim=0)[given["single_image_index"]]
    values["cal_maps_mean"] = stacked.mean(dim=0)
    with file:
        file.check_all(values)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_preprocess(entry: dict, image_size: int, crop_size: int) -> Preprocess:
    mean, std = tuple(entry["normalize"]["mean"]), tuple(entry["normalize"]["std"])
    assert entry["mask_threshold"] == 0, "the rule 'any' is: above zero"
    return Preprocess(image_size=image_size, crop_size=crop_size, mean=mean, std=std, mask_rule="any")


def test_preprocess(file: GoldenFile, tmp_path: Path) -> None:
    entry = file.entry
    image, mask = save(tmp_path / "image.png", file["image"]), save(tmp_path / "mask.png", file["mask"])
    values: dict[str, object] = {}
    for case in entry["cases"]:
        preprocess = make_preprocess(entry, case["resize"], case["crop"])
        grey_mask = preprocess.pixels(mask)[None, ..., 0]
        values |= {
            case["tensor"]: normalise(preprocess.pixels(image)[None], preprocess)[0],
            case["mask_tensor"]: (grey_mask / np.float32(255)).reshape(file[case["mask_tensor"]].shape),
            case["mask_bool"]: preprocess.mask(Record(image, "part", 1, mask=mask)).reshape(
                file[case["mask_bool"]].shape
            ),
        }
    for case in entry["gray"]:
        grey = save(tmp_path / "grey.png", file["image"][..., case["channel"]])
        preprocess = make_preprocess(entry, case["resize"], case["crop"])
        values[case["tensor"]] = normalise(preprocess.pixels(grey)[None], preprocess)[0]
    for case in entry["fundus"]:
        side, _ = case["resize"]
        values[case["output"]] = aptos.crop_fundus(file[case["input"]], side, margin=case["margin"])
    with file:
        file.check_all(values)


def test_evaluate_dataset(file: GoldenFile, build, tmp_path: Path) -> None:
    entry, decimals, fraction = file.entry, file.entry["round"], file.entry["top_fraction"]
    preprocess = make_preprocess(entry, entry["image_size"], entry["crop_size"])
    rows = sorted(entry["images"], key=lambda row: entry["layout"]["name"].format(**row))
    pixels, masks = [], []
    for row in rows:
        image = save(tmp_path / entry["layout"]["image"].format(**row), file[row["image"]])
        mask = row["mask"] and save(tmp_path / entry["layout"]["mask"].format(**row), file[row["mask"]])
        pixels.append(preprocess.pixels(image))
        masks.append(preprocess.mask(Record(image, "part", 1, mask=mask)))
    images, masks = normalise(np.stack(pixels), preprocess), np.stack(masks)
    labels = np.array([row["label"] for row in rows])

    model, maps = build(entry), {}
    for protocol in ("sum", "mean"):
        detector = ReContrastDetector(model, preprocess, map_protocol=protocol, image_score="max")
        prediction = detector.score(images)
        maps[protocol] = prediction.anomaly_maps
        torch.testing.assert_close(prediction.image_scores, max_score(maps[protocol]), check_dtype=False)

    def scores(protocol: str, ratio: float) -> np.ndarray:
        reduced = top_fraction_score(maps[protocol], ratio) if ratio else max_score(maps[protocol])
        return reduced.numpy()

    # The reference's thresholds are float64, as its maps are; in float32 the value moves by 4e-4.
    pro = recontrast_aupro_per_image(maps["sum"].double().numpy(), masks)
    values: dict[str, object] = {
        "names": [entry["layout"]["name"].format(**row) for row in rows],
        "score_max": scores("sum", 0),
        "score_mean": mean_score(maps["sum"]),
        "score_top1pct": scores("sum", fraction),
        "pro": pro,
        "batch_score_max": scores("mean", 0),
        "batch_score_top1pct": scores("mean", fraction),
    }
    for protocol, cases in (("sum", entry["single"]), ("mean", entry["batch"])):
        for case in cases:
            image_scores = scores(protocol, case["max_ratio"])
            columns = {
                "auroc_px": auroc(maps[protocol], masks),
                "ap_px": average_precision(maps[protocol], masks),
                "auroc_image": auroc(image_scores, labels),
                "ap_image": average_precision(image_scores, labels),
                "pro": float(np.nanmean(pro)),
            }
            values[case["output"]] = [round(columns[name], decimals) for name in case["columns"]]
    for case in entry["image_only"]:
        image_scores = {"max": max_score, "mean": mean_score}[case["reduction"]](maps["sum"]).numpy()
        best = recontrast_best_f1(image_scores, labels)
        columns = {
            "auroc_image": round(auroc(image_scores, labels), decimals),
            "f1": best.f1,
            "accuracy": best.accuracy,
        }
        values[case["output"]] = [columns[name] for name in case["columns"]]
    with file:
        file.check_all(values)
