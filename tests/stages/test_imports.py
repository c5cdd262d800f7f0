"""What scripts import: a package takes up to two seconds of each process, so none is imported for nothing."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
UNUSED = {"matplotlib", "pandas", "scipy", "sklearn", "tensorflow"}
COMPILERS = {"sympy", "torch._dynamo", "torch._inductor", "torch.onnx", "triton"}
TRAINERS = UNUSED | COMPILERS | {"dvclive", "timm", "torchvision"}
RUNTIMES = TRAINERS | {"ai_edge_litert", "onnx", "onnxruntime"}
FLOAT = "from models.registry import create_model; create_model('vargconvnet_32', 10, 32, {})"
PREPARE = (
    "from pipeline.machine import prepare; from pipeline.params import load_params; prepare(load_params().execution)"
)
GROUPS = [  # each with what it must not import, all in one process: a group may import what those before it have
    ({"torch"} | RUNTIMES, "stages.code stages.overlap stages.pack tools.gate tools.recipe tools.verify", "pass"),
    (RUNTIMES, "stages.convert_int stages.export_c stages.export_litert stages.golden stages.validate", PREPARE),
    (RUNTIMES, "stages.calibrate stages.count_ops", FLOAT),
    (TRAINERS, "stages.compare stages.export_onnx stages.model_card stages.report tools.predict", FLOAT),
]


def test_scripts_import_only_what_they_use():
    script = "import sys\n"
    script += "\n".join(f"import {', '.join(group.split())}; {then}; print(*sys.modules)" for _, group, then in GROUPS)
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for (unwanted, group, _), line in zip(GROUPS, done.stdout.splitlines(), strict=True):
        loaded = {*line.split()}
        assert loaded >= {*group.split()}
        assert loaded & unwanted == set(), group


def test_no_garbage_is_looked_for_until_the_imports_are_done():
    script = "import gc, stages, pipeline.cli as cli; print(gc.isenabled()); cli.run(lambda: print(gc.isenabled()))"
    started = [[], ["-m"]]  # as by a test, and by python -m
    for arguments, expected in zip(started, ("True\nTrue\n", "False\nTrue\n"), strict=True):
        command = [sys.executable, "-c", f"import sys; sys.argv[:] = {arguments}; {script}"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        assert done.stdout == expected
