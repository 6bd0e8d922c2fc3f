"""Prediction on any images: in memory, on the command line, as an ONNX file."""

import os
import sys

# Left alone, both runtimes number the user in the home folder, and report to their makers, when imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
