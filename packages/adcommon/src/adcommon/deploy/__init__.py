"""Prediction on any images: in memory, on the command line, as an ONNX file."""
