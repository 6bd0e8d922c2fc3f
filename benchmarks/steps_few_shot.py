"""The few-shot methods for `gpu.sh`, as in steps.py."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import bench_inctrl
import bench_resad
import torch
from accelerate import Accelerator
from plain import plain as plain_convolutions
from steps import Step, Subject, compile_if
from torch import Tensor
from torch.optim import AdamW

from adcommon.models.backbones import FeaturePyramid
from adcommon.types.prediction import Detector
from inctrl.backbone import make_backbone
from inctrl.backbone import make_preprocess as inctrl_preprocess
from inctrl.batches import TrainBatch
from inctrl.detector import FewShotModel
from inctrl.losses import training_loss
from inctrl.model import InCTRL, trainable
from inctrl.network.features import as_features
from inctrl.network.residual import text_score
from inctrl.optimiser import update as inctrl_update
from inctrl.recipes import MVTEC as INCTRL
from inctrl.references import References
from resad.backbone import build_backbone
from resad.backbone import make_preprocess as resad_preprocess
from resad.detector import ResADDetector, ScoreRange
from resad.losses import RunningBoundaries
from resad.model import ResAD
from resad.network.residual import ReferenceRows, match_classes, residual
from resad.network.residual import References as ResADReferences
from resad.optimiser import Optimisers, level_mask
from resad.optimiser import update as resad_update
from resad.recipes import PAPER as RESAD
from resad.recipes import QUICKSTART as SMALL_RESAD


def inctrl(device: torch.device, tiny: bool) -> Subject:
    recipe, shots = INCTRL, 2
    if tiny:
        vision_only = replace(recipe, backbone="resnet18", layers=(3, 4), batch_order="corrected")
        recipe = replace(vision_only, image_size=64, batch_size=2)
    batch, side = recipe.batch_size, recipe.image_size
    images, labels = torch.randn((1 + shots) * batch, 3, side, side), torch.arange(batch) % 2.0
    backbone = make_backbone(recipe, "random", device)
    start = InCTRL(backbone.tower.embed, backbone.patches).train()
    text = backbone.text([bench_inctrl.CATEGORY] * batch)

    @torch.no_grad()
    def encoded() -> TrainBatch:
        features = as_features(backbone.tower(images))
        return TrainBatch(features[:batch], features[batch:], labels, text)

    def reference() -> Step:
        model = deepcopy(start)
        optimiser = AdamW(trainable(model), lr=recipe.lr, weight_decay=recipe.weight_decay)

        def step() -> float:
            seen, told = encoded(), None
            if backbone.clip is not None:  # the sentences anew for every query
                with device:
                    anew = torch.stack([bench_inctrl.encode_text(backbone.clip) for _ in range(batch)])
                told = text_score(seen.query.tokens, anew)
            own = [seen.references[query::batch] for query in range(batch)]
            maps = [bench_inctrl.looped_map(seen.query[q : q + 1], own[q]) for q in range(batch)]
            tokens = torch.stack([each.tokens for each in own])
            loss = training_loss(model(seen.query.tokens, tokens, torch.cat(maps), told), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            return loss.item()

        return step

    def ours(accelerator: Accelerator, compiled: bool, kept: bool) -> Step:
        model, features = deepcopy(start), encoded()
        optimiser = AdamW(trainable(model), lr=recipe.lr, weight_decay=recipe.weight_decay)
        compile_if(compiled, model)
        order = recipe.batch_order
        return lambda: inctrl_update(
            model, features if kept else encoded(), optimiser, accelerator, order=order
        )

    def detector() -> Detector:
        few_shot = FewShotModel(deepcopy(start), backbone, inctrl_preprocess(recipe))
        references = References("drawn", images[-shots:], (Path(),) * shots)
        return few_shot.bind(bench_inctrl.CATEGORY, references)

    return Subject(recipe, recipe.cache_features, ours, reference, detector)


def resad(device: torch.device, tiny: bool) -> Subject:
    recipe = replace(SMALL_RESAD, image_size=64, batch_size=4, flow_batch=64) if tiny else RESAD
    count, side, categories = recipe.batch_size, recipe.image_size, bench_resad.CATEGORIES
    backbone = build_backbone(recipe, "random", device)
    assert isinstance(backbone, FeaturePyramid)
    images = torch.randn(count + categories * recipe.train_ref_shot, 3, side, side)
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    masks[::2, 8:40, 8:40] = True
    start = ResAD(list(backbone.channels), recipe).train()
    names = [str(place * categories // count) for place in range(count)]
    levels = backbone(images)
    flat = [level_mask(masks, maps.shape[2:], imagebind=False) for maps in levels]

    def reference() -> Step:
        step = bench_resad.PlainStep(plain_convolutions(deepcopy(start)), recipe, flat)

        def plain() -> float:
            with torch.no_grad():
                seen = backbone(images)
            with device:  # on which the plain code makes its tensors
                return step([level[:count] for level in seen], [level[count:] for level in seen])[0]

        return plain

    def residuals(seen: list[Tensor]) -> list[Tensor]:
        found = []
        for level in seen:
            maps = level[:count].contiguous(memory_format=torch.channels_last)
            parts = level[count:].contiguous(memory_format=torch.channels_last).chunk(categories)
            rows = {str(n): ReferenceRows.of(bench_resad.rows_of(part)) for n, part in enumerate(parts)}
            found.append(residual(maps, match_classes(maps, names, rows), recipe.residual))
        return found

    def ours(accelerator: Accelerator, compiled: bool, kept: bool) -> Step:
        model = deepcopy(start)
        optimisers, boundaries = Optimisers(model, recipe), RunningBoundaries(recipe.feature_levels)
        compile_if(compiled, model.constraintor, *model.estimators)

        def step() -> Tensor:
            seen = residuals(levels if kept else backbone(images))
            settings = (optimisers, boundaries, recipe, accelerator)
            return resad_update(model, seen, flat, *settings, second_stage=True).quantiser

        return step

    def detector() -> Detector:
        references = ResADReferences.of(backbone(images[-recipe.train_ref_shot :]))
        scale = ScoreRange((0.0,) * recipe.feature_levels, float(recipe.feature_levels))
        return ResADDetector(backbone, deepcopy(start), resad_preprocess(recipe), references, scale=scale)

    return Subject(recipe, True, ours, reference, detector)


SUBJECTS: dict[str, Callable[[torch.device, bool], Subject]] = {"inctrl": inctrl, "resad": resad}
