"""What only moves values gives the same bits in every runtime, each way of moving them for itself."""

import numpy as np
import pytest
import torch
from candidates import CANDIDATES
from comparison import compare
from installed import lacks_vnni
from moves import MOVES
from portable_programs import PROGRAMS
from programs import hard_inputs, in_real_numbers
from subjects import Network, subject_of

pytestmark = pytest.mark.runtimes
NEAR = [
    key for key, candidate in CANDIDATES.items() if candidate.runtime in ("LiteRT", "TFLM")
]  # no process of its own
CASES = [(key, name) for key in NEAR for name in MOVES]
CASES += [(key, name) for key in CANDIDATES for name in ("network_shuffled", "moves_in_a_row", "select_flip_all")]


@pytest.mark.parametrize(("key", "name"), dict.fromkeys(CASES))
def test_a_runtime_gives_the_same_bits(key, name, tmp_path):
    candidate, program = CANDIDATES[key], PROGRAMS[name]
    if not candidate.is_installed:
        pytest.fail(f"{candidate.package.name} is not installed; make test-runtimes installs it", pytrace=False)
    if candidate.needs_vnni and lacks_vnni():
        pytest.skip("this processor has no VNNI, without which 8-bit products saturate in pairs")
    x = torch.from_numpy(hard_inputs(program, 2).astype(np.float32) / 128)
    network = Network(name, program.input_shape[1], images=None, slow=len(x), traced=len(x))
    subject = subject_of(network, in_real_numbers(program), program, x, tmp_path)
    found = compare(subject, candidate)
    assert found.compared > 0
    if candidate.is_exact:
        assert found.different == 0, f"{found.different} of {found.compared} values differ: {found.where}"
