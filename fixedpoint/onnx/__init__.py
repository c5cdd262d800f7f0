"""ONNX files of a program, and ONNX Runtime to run them."""
