"""The paper's results, to stand beside ours; no torch here.

Source: the paper's main table, image AUROC, trained on MVTec AD (for MVTec AD itself on VisA), mean and
deviation over three draws of references; ViT-B-16-plus-240. Only columns that could be confirmed are here.
"""

from adcommon.results.card import Paper

PAPER = Paper(
    "InCTRL",
    "Zhu, Pang: Toward Generalist Anomaly Detection via In-context Residual Learning with Few-shot Sample "
    "Prompts, CVPR 2024, https://arxiv.org/abs/2403.06495",
)

PUBLISHED: dict[str, dict[int, tuple[float, float]]] = {
    "elpv": {2: (0.839, 0.003), 4: (0.846, 0.011), 8: (0.872, 0.013)},
    "aitex": {2: (0.761, 0.029), 4: (0.790, 0.018), 8: (0.806, 0.036)},
    "visa": {2: (0.858, 0.022), 4: (0.877, 0.019), 8: (0.887, 0.021)},
    "mvtec": {2: (0.940, 0.015), 4: (0.945, 0.018), 8: (0.953, 0.013)},
}
"""By dataset and shots: mean and deviation of the image AUROC, fractions."""
