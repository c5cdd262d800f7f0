"""Runs .onnx files in ONNX Runtime with and without optimizations, without PyTorch, which takes long in an emulator.

python run_emulated.py x.npy answer.npz FILE ...
"""

import sys

import numpy as np
import onnxruntime

if __name__ == "__main__":
    x, found = np.load(sys.argv[1]), {}
    for path in sys.argv[3:]:
        for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            found[f"{path} {level}"] = session.run(None, {"input": x})[0].reshape(len(x), -1)
    np.savez(sys.argv[2], **found)
