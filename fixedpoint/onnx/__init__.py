"""ONNX files of a program, and ONNX Runtime to run them."""

import os

# ONNX Runtime writes a device id and events for its maker into the user's cache unless this is set before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
