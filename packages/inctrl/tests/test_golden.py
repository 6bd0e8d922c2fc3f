"""Parity with the reference implementations on golden files; what varies comes from their meta.json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.optim import AdamW

from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.data.sources.splits import quarter_split
from adcommon.testing.golden import GoldenFile, GoldenFolder, golden_cases, kinds_read
from inctrl.batches import TrainBatch
from inctrl.compat.lists import scan, write_lists
from inctrl.data import balanced_indices
from inctrl.losses import focal
from inctrl.metrics import inctrl_metrics, winclip_metrics
from inctrl.model import Adapter, Head, InCTRL, trainable
from inctrl.network.clip import ClipTower, build_clip, text_features, tokeniser
from inctrl.network.features import Features, as_features
from inctrl.network.prompts import sentences
from inctrl.network.residual import patch_residual, text_score, unit
from inctrl.optimiser import forward_batch, update
from inctrl.winclip.evaluate import choose
from inctrl.winclip.model import encode, judge
from inctrl.winclip.tiles import cut, tile_boxes
from inctrl.winclip.windows import SIDES, harmonic_map, window_patches

TRAINED = ("adapter.", "diff_head.", "diff_head_ref.")
SLOW_WIDTH = 512
"""Vision towers from this width on are marked slow."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    golden_cases(metafunc, is_slow)


def is_slow(folder: GoldenFolder, name: str) -> bool:
    return folder.files[name].get("model", {}).get("vision_cfg", {}).get("width", 0) >= SLOW_WIDTH


@pytest.fixture
def file(request: pytest.FixtureRequest, folder: GoldenFolder) -> GoldenFile:
    """A golden file in the form of the shared reader: what its `meta.json` calls otherwise is renamed."""
    entry = dict(folder.files[request.param])
    path = folder.folder / f"{request.param}.{entry['format']}"
    other_pillow = int(PIL.__version__.split(".")[0]) != 12
    entry["tolerance"] = {
        pattern: {
            "rtol": values["rtol"],
            "atol": values.get("atol_other_pillow_major", values["atol"]) if other_pillow else values["atol"],
            "dtype": values["dtype"],
        }
        for pattern, values in entry["tolerances"].items()
    }
    golden = GoldenFile(path, entry, folder.salt)
    names = list(golden.json()) if entry["format"] == "json" else list(np.load(path))
    given = [*entry.get("stored_inputs", ()), *entry["stored_facts"]]
    entry["outputs"] = {
        name: {} for name in names if not any(fnmatchcase(name, pattern) for pattern in given)
    }
    return golden


@pytest.fixture
def state(folder: GoldenFolder):
    """The seeded entries that a file's meta.json describes."""

    def make(file: GoldenFile) -> dict[str, Tensor]:
        described = file.entry["state"]
        values = folder.state(
            {
                "shapes": [described["shapes_file"]],
                "key": described["key"],
                "prefixes": described.get("keep_prefixes", [""]),
                "remove": described["remove"],
            }
        )
        return {name: torch.as_tensor(value) for name, value in values.items()}

    return make


def seeded(file: GoldenFile, given: Mapping[str, Any]) -> Tensor:
    """An input, with the map that its description applies to it."""
    value = torch.as_tensor(file.input({"seeded": given["name"], "shape": given["shape"]}))
    change = given.get("map", {})
    match change.get("op"):
        case None:
            return value
        case "sigmoid":
            return torch.sigmoid(value)
        case "greater":
            return (value > change["than"]).float()
        case "scale":
            return value * change["factor"]
        case "abs_scale":
            return value.abs() * change["factor"]
    raise AssertionError(f"unknown map {change}")


def statistics(value: Tensor, described: Mapping[str, Any]) -> np.ndarray:
    flat = value.detach().double().flatten()
    first = flat[: described["first_values"]]
    padded = F.pad(first, (0, described["first_values"] - len(first)), value=described["pad"])
    return torch.cat([flat.mean()[None], flat.std(correction=0)[None], padded]).numpy()


class Whole:
    """CLIP and the trained part, filled from one state dict under the authors' names."""

    def __init__(self, entry: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
        own = {name: value for name, value in state.items() if name.startswith(TRAINED)}
        self.clip = build_clip(entry["model"], {n: v for n, v in state.items() if n not in own})
        layers = [block + 1 - entry["vision_blocks_counted_from"] for block in entry["vision_blocks"]]
        self.tower = ClipTower(self.clip, "golden", layers)
        assert list(self.tower.grid) == entry["grid"]
        self.model = InCTRL(self.tower.embed, self.tower.grid[0] * self.tower.grid[1])
        self.model.load_state_dict(own)
        self.model.eval()
        self.scale = entry["text_scale"]

    def text(self, types: list[str]) -> Tensor:
        table = {name: text_features(self.clip, name) for name in dict.fromkeys(types)}
        return torch.stack([table[name] for name in types])

    def features(self, images: Tensor) -> Features:
        return as_features(self.tower(images))


def test_every_listed_file_has_a_reader(folder: GoldenFolder) -> None:
    assert folder.without_reader(kinds_read(Path(__file__))) == []


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_inctrl_forward(file: GoldenFile, state) -> None:
    whole, samples = Whole(file.entry, state(file)), file.entry["samples"]
    positions = samples["patch_tokens_sample"]
    with file:
        for case in file.entry["cases"]:
            tag = case["tag"]
            query = whole.features(seeded(file, case["query"]))
            references = whole.features(torch.stack([seeded(file, given) for given in case["references"]]))
            assert len(references.tokens) == case["shot"]
            told = text_score(query.tokens, whole.text(case["types"]), whole.scale)
            residual_map = patch_residual(
                query.levels, unit([level.flatten(0, 1)[None] for level in references.levels])
            )
            outputs = whole.model(query.tokens, references.tokens[None], residual_map, told)
            taken = torch.stack([level[0] for level in query.levels])
            got = {
                "final_score": outputs.final,
                "img_ref_score": outputs.image,
                "text_score": told,
                "patch_ref_map": residual_map,
                "hl_score": outputs.holistic,
                "fg_score": outputs.peak,
                "token": query.tokens,
                "token_ref": outputs.token_residual,
                "patch_tokens_sample": taken[:, :: positions["position_step"], : positions["channels"]],
                "patch_token_stats": np.stack(
                    [statistics(level, samples["stats"]) for level in query.levels]
                ),
                "ref_patch_token_stats": np.stack(
                    [statistics(level, samples["stats"]) for level in references.levels]
                ),
            }
            for name, value in got.items():
                file.check(f"{tag}.{name}", np.reshape(value, file[f"{tag}.{name}"].shape))


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_inctrl_text(file: GoldenFile, state) -> None:
    described = {name: value for name, value in state(file).items() if not name.startswith(TRAINED)}
    clip, columns = build_clip(file.entry["model"], described), file.entry["stored_token_columns"]
    with file:
        for case in file.entry["cases"]:
            tag = case["tag"]
            groups = dict(zip(("normal", "anomaly"), sentences(case["type"]), strict=True))
            for kind, texts in groups.items():
                assert len(texts) == case[f"n_{kind}"]
                file.check(f"{tag}.{kind}_texts", np.array(texts))
                tokens = tokeniser(clip.context_length)(texts)
                assert tokens.shape[1] == file.entry["context_length"]
                assert not tokens[:, columns:].any()
                file.check(f"{tag}.{kind}_tokens", tokens[:, :columns])
            first = clip.encode_text(tokeniser(clip.context_length)(groups["normal"][:1]))[0]
            file.check(f"{tag}.first_raw_normal_feature", first)
            file.check(f"{tag}.text_features", text_features(clip, case["type"]))


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_inctrl_batch(file: GoldenFile, state) -> None:
    entry, entries = file.entry, state(file)
    whole, shots = Whole(entry, entries), entry["shot"]
    query = whole.features(seeded(file, entry["query"]))
    text = whole.text(entry["types"])
    fewshot = [seeded(file, given) for given in entry["fewshot_references"]]
    references = {
        "prompts": torch.cat([seeded(file, given) for given in entry["prompts"]]),
        "fewshot_references": torch.cat([image.expand(entry["batch"], -1, -1, -1) for image in fewshot]),
    }
    encoded = {name: whole.features(images) for name, images in references.items()}
    with file:
        for order in entry["orders"]:
            for name, part in entry["parts"].items():
                model = Whole(entry, entries).model if part.get("fresh_state") else whole.model
                model.train(part["mode"] == "train")
                theirs = encoded[part["references"]]
                batches = [TrainBatch(query, theirs, torch.zeros(entry["batch"]), text)]
                if part["queries"] == "one by one":
                    batches = []
                    for item in range(entry["batch"]):
                        one, own = slice(item, item + 1), slice(item, None, entry["batch"])
                        batches.append(TrainBatch(query[one], theirs[own], torch.zeros(1), text[one]))
                outputs = [forward_batch(model, batch, order) for batch in batches]
                assert all(batch.shots == shots for batch in batches)
                got = {
                    "final_score": torch.cat([out.final for out, _ in outputs]),
                    "img_ref_score": torch.cat([out.image for out, _ in outputs]),
                    "hl_score": torch.cat([out.holistic for out, _ in outputs]),
                    "token_ref": torch.cat([out.token_residual for out, _ in outputs]),
                    "patch_ref_map": torch.cat([residual for _, residual in outputs]),
                    "text_score": text_score(query.tokens, text, whole.scale),
                }
                got |= {
                    f"{norm}.{key}": value
                    for norm in part.get("buffers_after", ())
                    for key, value in model.get_submodule(norm).named_buffers()
                }
                for what, value in got.items():
                    full = f"{order}.{name}.{what}"
                    if full in file.entry["outputs"]:
                        file.check(full, value.reshape(file[full].shape))


@pytest.mark.usefixtures("device")
def test_focal_loss(file: GoldenFile) -> None:
    entry = file.entry
    values = {name: seeded(file, given).requires_grad_() for name, given in entry["inputs"].items()}
    got: dict[str, Tensor] = dict(values)
    for name, how in entry["values"].items():
        loss = focal(
            values[how["input"]],
            values[how["target"]].detach(),
            alpha=how["alpha"],
            gamma=how["gamma"],
            logits=how["logits"],
        )
        got[name] = loss.mean() if how["reduce"] else loss
    for name, terms in entry["sums"].items():
        got[name] = torch.stack([got[term] for term in terms]).sum()
    for name, how in entry["gradients"].items():
        (got[name],) = torch.autograd.grad(got[how["of"]], values[how["by"]], retain_graph=True)
    with file:
        file.check_all(got)


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_inctrl_heads(file: GoldenFile, state) -> None:
    entries = state(file)
    with file:
        for case in file.entry["cases"]:
            value = seeded(file, case["input"])
            module: nn.Module = (
                Adapter(value.shape[1], case["reduction"])
                if case["module"] == "adapter"
                else Head(value.shape[1])
            )
            prefix = case["prefix"]
            module.load_state_dict(
                {
                    name.removeprefix(prefix): entry
                    for name, entry in entries.items()
                    if name.startswith(prefix)
                }
            )
            for name, mode in case["passes"].items():
                out = module.train(mode == "train")(value)
                full = f"{case['tag']}.{name}"
                file.check(full, out.reshape(file[full].shape))
            for norm in case["buffers_after"]:
                for key, buffer in module.get_submodule(norm).named_buffers():
                    if f"{case['tag']}.{norm}.{key}" in file.entry["outputs"]:
                        file.check(f"{case['tag']}.{norm}.{key}", buffer)


def _batches(
    file: GoldenFile, entries: Mapping[str, Tensor], dtype: torch.dtype, steps: int
) -> Iterator[TrainBatch]:
    """The batches of a golden training, from stored features or through the tower."""
    entry, whole = file.entry, Whole(file.entry, entries)
    whole.clip.to(dtype)
    labels, text = torch.tensor(entry["labels"], dtype=dtype), whole.text(entry["types"])
    for described in entry["per_step"][:steps]:
        if entry["supplied"] == "features":
            drop = entry["supplied_how"]["class_token_position"]
            assert entry["supplied_how"]["axes"] == ["position", "item", "channel"]
            query, references = (
                Features(
                    seeded(file, described[f"{who}_token"]).to(dtype),
                    [
                        torch.cat([tokens[:drop], tokens[drop + 1 :]]).transpose(0, 1).to(dtype)
                        for tokens in (seeded(file, given) for given in described[f"{who}_tokens"])
                    ],
                )
                for who in ("query", "prompts")
            )
        else:
            down, across = entry["supplied_how"]["repeat_each_cell"]

            def image(given: Mapping[str, Any], down: int = down, across: int = across) -> Tensor:
                cells = seeded(file, given).to(dtype)
                return cells.repeat_interleave(down, 2).repeat_interleave(across, 3)

            query = whole.features(image(described["query"]))
            references = whole.features(torch.cat([image(given) for given in described["prompts"]]))
        yield TrainBatch(query, references, labels, text)


def _train(file: GoldenFile, entries: Mapping[str, Tensor], order: str, batches: Sequence[TrainBatch]):
    """What a golden file stores of a training."""
    entry, got, dtype = file.entry, {}, batches[0].labels.dtype
    cast = {n: v.to(dtype) if v.is_floating_point() else v for n, v in entries.items()}
    whole = Whole(entry, entries)
    whole.model.to(dtype).load_state_dict({n: v for n, v in cast.items() if n.startswith(TRAINED)})
    options = entry["optimizer"]
    optimiser = AdamW(trainable(whole.model), lr=options["lr"], weight_decay=options["weight_decay"])
    group = optimiser.param_groups[0]
    assert (list(group["betas"]), group["eps"]) == (options["betas"], options["eps"])
    how, accelerator = entry["loss"], Accelerator(cpu=True)
    model, samples = whole.model.train(), entry["samples"]
    series: dict[str, list[Tensor]] = {}
    for step, batch in enumerate(batches):
        assert batch.shots == entry["shot"]
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        outputs, residual_map = forward_batch(model, batch, order)
        for name, value in buffers.items():  # this look must not count as a second forward
            model.get_buffer(name).copy_(value)
        terms = {
            name: focal(
                score, batch.labels, alpha=how["alpha"], gamma=how["gamma"], logits=how["logits"]
            ).mean()
            for name, score in (("loss_final", outputs.final), ("loss_ref", outputs.image))
        }
        loss = update(
            model, batch, optimiser, accelerator,
            order=order, gamma=how["gamma"], logits=how["logits"],
        )  # fmt: skip
        now = {
            "loss": loss,
            **terms,
            "final_score": outputs.final,
            "img_ref_score": outputs.image,
            "patch_ref_map_first8": residual_map[:, : samples["patch_ref_map_first8"]["columns"]],
        }
        for name, value in now.items():
            series.setdefault(name, []).append(value.detach())
        if step == samples["text_score"]["step"]:
            got["text_score"] = text_score(batch.query.tokens, batch.text, whole.scale)
        if step == samples["grad0"]["step"]:
            got |= {
                f"grad0.{name}": statistics(parameter.grad, samples["stats"])
                for name, parameter in model.named_parameters()
                if parameter.grad is not None
            }
    got |= {name: torch.stack(values) for name, values in series.items()}
    final = model.state_dict()
    changed = [name for name, value in final.items() if not torch.equal(value, cast[name])]
    got |= {f"after.{name}": statistics(final[name], samples["stats"]) for name in changed}
    return got, changed


@pytest.mark.usefixtures("device")
def test_inctrl_train(file: GoldenFile, state) -> None:
    entry, entries = file.entry, state(file)
    batches = list(_batches(file, entries, getattr(torch, entry["precision"]), entry["steps"]))
    with file:
        for order in entry["orders"]:
            got, changed = _train(file, entries, order, batches)
            stored = file[f"{order}.changed"]
            file.check(f"{order}.changed", np.array(sorted(changed)), np.array(sorted(stored)))
            for name in file.entry["outputs"]:
                what = name.removeprefix(f"{order}.")
                if what in got:
                    file.check(name, np.reshape(got[what], file[name].shape))
    short = entry["float32_check"]
    file.entry["tolerance"] = short["tolerances"]
    batches = list(_batches(file, entries, torch.float32, short["steps"]))
    for order in entry["orders"]:
        got, _ = _train(file, entries, order, batches)
        for name in file.entry["outputs"]:
            what = name.removeprefix(f"{order}.")
            if (
                name.startswith(order)
                and what in got
                and any(fnmatchcase(name, p) for p in short["tolerances"])
            ):
                stored = file[name] if what.startswith("grad0") else file[name][: short["steps"]]
                file.check(name, np.reshape(got[what], stored.shape), stored)


def test_inctrl_preprocess(file: GoldenFile, tmp_path: Path) -> None:
    entry, samples = file.entry, file.entry["samples"]
    size = entry["image_size"][0]
    preprocess = Preprocess(
        image_size=size,
        fit={"shorter side": "short_side"}[entry["resize"]],
        interpolation=entry["interpolation"],
        mean=entry["mean"],
        std=entry["std"],
        rgb="last",
    )
    with file:
        for case in entry["cases"]:
            tag = case["tag"]
            picture = Image.fromarray(file[f"{tag}.input"], None if case["mode"] != "P" else "L")
            if case["palette"]:
                picture.putpalette(file[f"{tag}.palette"].tobytes())
            assert picture.mode == case["mode"]
            picture.save(tmp_path / f"{tag}.png")
            pixels = preprocess.pixels(tmp_path / f"{tag}.png")
            file.check(f"{tag}.uint8", pixels)
            tensor = normalise(pixels[None], preprocess)[0]
            step = samples["tensor_sample"]["step"]
            file.check(f"{tag}.tensor_sample", tensor[:, ::step, ::step])
            file.check(f"{tag}.tensor_mean_std", torch.stack([tensor.mean(), tensor.std()]))


def test_winclip_preprocess(file: GoldenFile, tmp_path: Path) -> None:
    entry = file.entry
    with file:
        for case in entry["boxes"]:
            boxes = tile_boxes(case["width"], case["height"], "reference")
            assert len(boxes) == case["n_boxes"]
            file.check(case["tag"], np.array(boxes, dtype=np.int64).reshape(file[case["tag"]].shape))
        for case in entry["cases"]:
            Image.fromarray(file[f"{case['tag']}.input"]).save(tmp_path / "image.png")
            pixels, _ = cut(tmp_path / "image.png", entry["image_size"][0], "reference")
            assert len(pixels) == case["n_tiles"]
            file.check(f"{case['tag']}.uint8", pixels)


def test_split(file: GoldenFile) -> None:
    assert file.entry["test_size"] == 0.25
    with file:
        for case in file.entry["cases"]:
            train, test = quarter_split(case["n"], file.entry["seed"])
            file.check(f"{case['tag']}.train", train)
            file.check(f"{case['tag']}.test", test)


def test_balanced_sampler(file: GoldenFile) -> None:
    entry = file.entry
    batches = balanced_indices(entry["labels"], entry["batch_size"], seed=entry["seed"])
    with file:
        for name in entry["passes"]:
            file.check(name, np.array([next(batches) for _ in range(entry["steps_per_epoch"])]))


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_winclip_forward(file: GoldenFile, state) -> None:
    entry, samples = file.entry, file.entry["samples"]
    clip: open_clip.CLIP = build_clip(entry["model"], state(file))
    grid = (entry["grid"][0], entry["grid"][1])
    sizes = list(entry["window_sides"])
    assert tuple(entry["window_sides"].values()) == SIDES
    with file:
        for case in entry["cases"]:
            tag = case["tag"]
            query = encode(clip.visual, torch.cat([seeded(file, given) for given in case["query"]]))
            references = [
                encode(clip.visual, torch.cat([seeded(file, given) for given in tiles]))
                for tiles in case["references"]
            ]
            text = text_features(clip, case["object"], semantic=False)
            judged = judge(query, references, text, grid)
            got = {
                "pooled": query.pooled,
                "text_features": text,
                "text_prob": judged.text.mean() if case["tiles"] else judged.text,
                "text_probs": judged.text,
                "patch_score": judged.patches,
                "anomaly_map": judged.maps,
                "visual_score": judged.maps.amax(dim=1).float().mean(),
                "score": np.array(judged.score),
            }
            for size, features, scores, found in zip(
                sizes, query.windows, judged.windows, judged.window_maps, strict=True
            ):
                cut_by = samples[f"{size}_feature_sample"]
                got |= {
                    f"{size}_feature_sample": features[0, :: cut_by["window_step"], : cut_by["channels"]],
                    f"{size}_feature_stats": statistics(features, samples["stats"]),
                    f"{size}_window_score": scores,
                    f"{size}_map": found,
                }
            cut_by = samples["patch_feature_sample"]
            got["patch_feature_sample"] = query.patches[0, :: cut_by["position_step"], : cut_by["channels"]]
            got["patch_feature_stats"] = statistics(query.patches, samples["stats"])
            for name in file.entry["outputs"]:
                if name.startswith(f"{tag}."):
                    value = got[name.removeprefix(f"{tag}.")]
                    file.check(name, np.reshape(value, file[name].shape))


@pytest.mark.usefixtures("device")
def test_winclip_harmonic(file: GoldenFile) -> None:
    entry = file.entry
    grid = (entry["grid"][0], entry["grid"][1])
    with file:
        for name, side in entry["window_sides"].items():
            scores = seeded(file, entry["inputs"][name]).double()
            file.check(f"{name}_scores", scores)
            file.check(f"{name}_map", harmonic_map(scores, grid, side).reshape(file[f"{name}_map"].shape))
            scores[0, entry["zero_index"][name]] = 0
            assert int(file[f"zero_{name}_index"]) == entry["zero_index"][name]
            zeroed = f"zero_{name}_map"
            file.check(zeroed, harmonic_map(scores, grid, side).reshape(file[zeroed].shape))


def test_winclip_masks(file: GoldenFile) -> None:
    entry = file.entry
    with file:
        for name, side in entry["window_sides"].items():
            patches = window_patches((entry["grid"][0], entry["grid"][1]), side)
            file.check(name, patches.T + entry["counted_from"])


def test_converters(file: GoldenFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists of images; the trees of the converters are tested where the converters are."""
    tree, stored = file.entry["trees"]["json"], file.json()
    monkeypatch.chdir(tmp_path)
    folder = Path(tree["dataset_dir"])
    for name in tree["files"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    split = scan(folder / tree["dataset_name"], tree["dataset_name"], "reference").split
    for part in ("train", "val"):
        write_lists(part, Path("lists"), tree["dataset_name"], split)
    assert {path.name: json.loads(path.read_text()) for path in Path("lists").iterdir()} == stored["json"]


def test_winclip_reference_choice(file: GoldenFile) -> None:
    draw = "reference" if file.entry["replace"] else "distinct"
    with file:
        for case in file.entry["cases"]:
            file.check(
                case["tag"], np.array(choose(case["n"], case["k"], seed=file.entry["seed"], draw=draw))
            )


def test_metrics(file: GoldenFile) -> None:
    thresholds = file.entry["f1_thresholds"]
    assert (thresholds["start"], thresholds["stop"], thresholds["step"]) == (0.0, 1.0, 0.01)
    with file:
        for case in file.entry["cases"]:
            tag = case["tag"]
            scores, labels = file[f"{tag}.score"], file[f"{tag}.label"]
            assert len(scores) == case["n"]
            ours, theirs = inctrl_metrics(scores, labels), winclip_metrics(scores, labels)
            file.check(f"{tag}.auroc", ours.auroc)
            file.check(f"{tag}.average_precision", ours.auprc)
            file.check(f"{tag}.aupr_trapezoid", theirs.aupr)
            file.check(f"{tag}.f1_max_grid", theirs.f1max)
