"""A program in portable arithmetic gives the same bits in every runtime: `make test-runtimes`.

NETWORKS chooses among the networks, SIZE sets the image size of those with random weights.
"""

import numpy as np
import pytest
from candidates import CANDIDATES
from comparison import compare
from ethos_u import ACCELERATORS, compile_for
from installed import PACKAGES, lacks_vnni, version
from subjects import SAMPLE, RefusedError, chosen

pytestmark = pytest.mark.runtimes
NETWORKS = [pytest.param(network, id=network.name) for network in chosen()]
each_network = pytest.mark.parametrize("subject", NETWORKS, indirect=True, scope="session")


@each_network
def test_a_network_says_something(subject):
    logits = subject.logits["int8"]
    assert len(np.unique(logits)) >= 20
    assert len(np.unique(logits, axis=0)) > len(logits) / 2, "most images have the same logits"
    assert np.mean(np.abs(logits.astype(int)) >= 127) < 0.1, "most logits are saturated"
    assert sum(len(np.unique(value)) > 10 for value in subject.tensors.values()) > len(subject.tensors) / 2


@each_network
@pytest.mark.parametrize("key", CANDIDATES)
def test_a_runtime_gives_the_same_bits(subject, key, results):
    candidate, network = CANDIDATES[key], subject.network.name
    if not candidate.is_installed:
        results.add("runtimes", candidate.title, network, "not installed")
        pytest.fail(f"{candidate.package.name} is not installed; make test-runtimes installs it", pytrace=False)
    if candidate.needs_vnni and lacks_vnni():
        results.add("runtimes", candidate.title, network, "not run: needs VNNI")
        pytest.skip("this processor has no VNNI, without which 8-bit products saturate in pairs")
    try:
        found = compare(subject, candidate)
    except RefusedError as reason:
        results.add("runtimes", candidate.title, network, str(reason))
        pytest.skip(f"{candidate.title}: {reason}")
    results.add("runtimes", candidate.title, network, found.as_json())
    assert found.compared > 0
    if candidate.is_exact:
        assert found.different == 0, f"{found.different} of {found.compared} values differ: {found.where}"


@each_network
@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_what_ethos_u_leaves_to_the_cpu(subject, accelerator, results, tmp_path):
    """No operator of the sample; for other networks they are shown, with the reasons."""
    network = subject.network.name
    if version("ethos-u-vela", PACKAGES) is None:
        results.add("ethos-u", accelerator, network, "not installed")
        pytest.fail("ethos-u-vela is not installed; make test-runtimes installs it", pytrace=False)
    compiled = compile_for(accelerator, subject.folder / "int8.tflite", tmp_path)
    why = "".join(f"; {name}: {reason}" for name, reason in compiled.on_cpu.items())
    results.add("ethos-u", accelerator, network, f"{len(compiled.on_cpu)} of {compiled.operators}{why}")
    assert compiled.operators > len(subject.program.ops) / 2
    if network == SAMPLE:
        assert compiled.on_cpu == {}
