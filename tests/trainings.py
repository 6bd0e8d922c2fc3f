"""Every training loop, a few steps of it."""

RESNET = "--backbone resnet18 --weights random --batch-size 4"
TINY = "--class_name bottle cable --recipe tiny --image-size 16 --batch-size 4 --chunk-size 4 --iterations 6"
TRAININGS = {
    "recontrast-train": f"""{RESNET} --recipe own --dataset mvtec --category bottle --image-size 64
        --crop-size 64 --iterations 6 --evaluate-every 3""",
    "uniad-train": f"""{RESNET} --category bottle cable --strides 4 8 16 --image-size 64 --neighbourhood 3 3
        --hidden-dim 32 --encoder-layers 1 --decoder-layers 1 --epochs 2 --evaluate-every 1""",
    "uniad-train-decoder": f"{RESNET} --category bottle --strides 4 8 16 --image-size 64 --epochs 2",
    "realnet-train": f"""{RESNET} --class_name bottle --anomaly-source textures --image-size 64
        --structure layer1:64@4 layer2:64@8 --res-blocks 1 --channel-mult 1 2 --rrs-modes max:16 mean:16
        --perlin-scale 3 --afs-batches 2 --epochs 2 --evaluate-every 1""",
    "realnet-train-diffusion": f"""{TINY} --accumulate 1 --validation-batches 1
        --validation-respacing ddim2""",
    "realnet-train-classifier": TINY,
    "inctrl-train": f"""{RESNET} --train-category bottle cable --test-datasets visa/candle --shots 2
        --reference-seeds 0 --epochs 2 --steps-per-epoch 3 --batch-order corrected --layers 3 4
        --image-size 64""",
    "resad-train": f"""{RESNET} --setting mvtec_to_visa --train-category bottle cable --category candle
        --image-size 32 --feature-levels 2 --coupling-layers 2 --pos-embed-dim 8 --num-embeddings 6
        --flow-batch 64 --train-ref-shot 2 --epochs 2 --first-stage-epochs 1 --shots 2 --reference-seeds 0""",
}
FLOOR = {
    "padim-train": f"{RESNET} --category bottle --image-size 64 --crop-size 64 --features 20",
    "patchcore-train": f"{RESNET} --category bottle --image-size 64 --crop-size 64",
}
"""What looks at every image once, and saves nothing on the way."""
FEW_SHOT = ("inctrl-train", "resad-train")
PREDICTS = ("recontrast-train", "uniad-train", "realnet-train", *FEW_SHOT)
