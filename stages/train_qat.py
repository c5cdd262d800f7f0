"""Quantization-aware training: artifacts/qat/model.safetensors (best validation top-1) and last.safetensors.

python -m stages.train_qat [--checkpoint artifacts/ptq/model.safetensors]
"""

import argparse
from pathlib import Path

from fixedpoint.convert import convert
from fixedpoint.program import Program
from fixedpoint.qat import FakeQuantModel
from models.storage import load_model, save_model
from stages.cli import require, run
from stages.databases import check_model
from stages.fitting import fit_stage
from stages.machine import prepare
from stages.params import load_params
from training.checkpoint import digest_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="artifacts/ptq/model.safetensors")
    arguments = parser.parse_args()
    params = load_params()
    device = prepare(params.machine)
    path = require(arguments.checkpoint, "make calibrate")
    stored = load_model(path, ("ptq",))
    check_model(path, stored.info, params)
    model = FakeQuantModel(Program.from_json(stored.program, stored.tensors)).to(device)
    fitted = fit_stage("qat", model, params.qat, params, digest_files([Path(path)]))
    programs = {}
    for name, weights in {"last": fitted.last, "model": fitted.best}.items():
        model.load_state_dict(weights)
        programs[name] = model.trained()
        convert(programs[name])  # proves that training kept the accumulators below 2**24
    for name, program in programs.items():
        save_model(f"artifacts/qat/{name}.safetensors", "qat", program.constants, stored.info, program.to_json())


if __name__ == "__main__":
    run(main)
