"""What scripts import: a package takes up to two seconds of each process, so none is imported for nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
UNUSED = {"matplotlib", "pandas", "scipy", "sklearn", "tensorflow"}
COMPILERS = {"sympy", "torch._dynamo", "torch._inductor", "torch.onnx", "triton"}  # two seconds
NETWORKS = COMPILERS | {"timm", "torchvision"}
NUMBERS = {"torch", "onnx", "onnxruntime"} | NETWORKS
PREPARE = (
    "from pipeline.machine import prepare; from pipeline.params import load_params; prepare(load_params().execution)"
)
TABLE = {  # by what none of them may import
    "images and files": (NUMBERS, "stages.code stages.overlap stages.pack tools.gate tools.recipe tools.verify", ""),
    "programs": (NETWORKS, "stages.convert_int stages.export_c stages.export_litert stages.model_card", ""),
    "programs on images": (NETWORKS, "stages.compare stages.golden stages.validate tools.predict", PREPARE),
}


@pytest.mark.parametrize("kind", TABLE)
def test_scripts_import_only_what_they_use(kind):
    unwanted, scripts, then = TABLE[kind]
    script = f"import sys, {', '.join(scripts.split())}; {then or 'pass'}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = {*done.stdout.split()}
    assert set(scripts.split()) <= loaded
    assert loaded & (unwanted | UNUSED) == set()
