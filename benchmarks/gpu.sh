#!/usr/bin/env bash
# What a GPU makes of this project, in under eight minutes: training steps, scoring, a real training, two GPUs,
# and `pytest -m gpu`. Installs nothing; writes OUT/gpu.json and OUT/gpu.md. Without a GPU: tiny sizes on the CPU.
#
#     bash benchmarks/gpu.sh [--out OUT] [--minutes 7.5] [--parts steps training ...]
set -euo pipefail
cd "$(dirname "$0")/.."

needed="import accelerate, adcommon, inctrl, open_clip, realnet, recontrast, resad, timm, torch, uniad"
if [ -d .venv ] && command -v uv >/dev/null; then
    python=(uv run --frozen --no-sync python)
else
    python=(python)
fi
if ! "${python[@]}" -c "$needed"; then
    echo "gpu.sh: '${python[*]}' lacks a package, named above. In this folder: uv sync; or activate an" >&2
    echo "environment that has the packages of this repository (README, 'Other builds of torch')." >&2
    exit 2
fi
exec "${python[@]}" benchmarks/gpu.py "$@"
