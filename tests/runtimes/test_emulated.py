"""ONNX Runtime on an emulated x86 processor without VNNI, whose kernels add two products in saturating 16 bits."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from batches import real
from subjects import chosen

from fixedpoint.program.integer import integer_input

pytestmark = pytest.mark.runtimes
EMULATOR, PROCESSOR, IMAGES = "qemu-x86_64", "Haswell", 4
FIRST = [pytest.param(network, id=network.name) for network in chosen()[:1]]


@pytest.mark.skipif(shutil.which(EMULATOR) is None, reason=f"{EMULATOR} is not installed")
@pytest.mark.parametrize("subject", FIRST, indirect=True, scope="session")
def test_only_the_qoperator_file_is_exact_without_vnni_by_default(subject, tmp_path):
    x, answer = tmp_path / "x.npy", tmp_path / "answer.npz"
    np.save(x, real(integer_input(subject.x[:IMAGES]).numpy()))
    files = [str(subject.folder / f"{form}.onnx") for form in ("qoperator", "qdq")]
    script = [str(Path(__file__).with_name("run_emulated.py")), str(x), str(answer), *files]
    packages = {"PYTHONPATH": str(Path(onnxruntime.__file__).parents[1])}
    command = [EMULATOR, "-cpu", PROCESSOR, os.path.realpath(sys.executable), *script]
    subprocess.run(command, env=os.environ | packages, check=True, capture_output=True)
    with np.load(answer) as found:
        exact = {key.rsplit("/", 1)[1]: np.array_equal(found[key], subject.logits["real"][:IMAGES]) for key in found}
    assert exact == {
        "qoperator.onnx ORT_DISABLE_ALL": True,
        "qoperator.onnx ORT_ENABLE_ALL": True,
        "qdq.onnx ORT_DISABLE_ALL": True,
        "qdq.onnx ORT_ENABLE_ALL": False,
    }
