"""Vela, Arm's compiler for Ethos-U: which operators of a .tflite file the NPU runs, and which the CPU."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema
from installed import PACKAGES

ACCELERATORS = ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256")
NPU = "ethos-u"  # the custom operator that stands for what the NPU runs


@dataclass(frozen=True)
class Compiled:
    """The number of operators of the file, and the reason for each that is left to the CPU, by its result."""

    operators: int
    on_cpu: dict[str, str]


def compile_for(accelerator: str, model: Path, folder: Path) -> Compiled:
    """Compile a .tflite file into a folder.

    Raises:
        RuntimeError: If Vela fails, with its last line.
    """
    command = [sys.executable, "-m", "ethosu.vela", str(model), "--accelerator-config", accelerator]
    command += ["--output-dir", str(folder), "--show-cpu-operations"]
    variables = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=folder)
    output, log = folder / f"{model.stem}_vela.tflite", done.stdout + done.stderr
    if done.returncode or not output.exists():
        raise RuntimeError(f"Vela for {accelerator}: {log.strip().splitlines()[-1] if log else done.returncode}")
    reasons = dict(re.findall(r"ofm: '(.*)'\nReason: (.*)", log))
    on_cpu = {name: reasons[name] for name in re.findall(r"^ *CPU: .* = (.*) \(", log, re.MULTILINE)}
    left = [name for name in _operators(output) if name != NPU]
    if len(left) != len(on_cpu):
        raise RuntimeError(f"Vela for {accelerator} names {[*on_cpu]} and leaves {left} to the CPU")
    return Compiled(len(_operators(model)), on_cpu)


def _operators(file: Path) -> list[str]:
    """The operators of a file by name, custom ones by theirs."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read_bytes()))
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = [
        code.customCode.decode() if code.customCode else names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        for code in model.operatorCodes
    ]
    return [codes[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators]
