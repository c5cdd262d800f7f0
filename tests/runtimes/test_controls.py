"""Controls: the comparison detects a file that is not portable, and a processor that saturates."""

from dataclasses import replace
from functools import partial

import pytest
from candidates import CANDIDATES
from comparison import compare
from installed import lacks_vnni, processor_flags
from onnx_runtimes import openvino
from subjects import Network, chosen, make_subject

from fixedpoint.litert import writer as litert
from fixedpoint.program import EXACT8

pytestmark = pytest.mark.runtimes
FIRST = [pytest.param(network, id=network.name) for network in chosen()[:1]]
first_network = pytest.mark.parametrize("subject", FIRST, indirect=True, scope="session")
needs_vnni = pytest.mark.skipif(lacks_vnni(), reason="this processor has no VNNI")


def record(results, subject, what, candidate, found):
    for column, value in {"network": subject.network.name, "differ": found.as_json()}.items():
        results.add("controls", f"{what}: {candidate.title}", column, value)


@first_network
@pytest.mark.parametrize(
    ("key", "differs"),
    [("litert-xnnpack", False), ("litert-optimized", True), ("litert-reference", True), ("tflm", True)],
)
def test_filter_scales_of_exact_powers_of_two_are_rounded_twice(subject, key, differs, results, tmp_path, monkeypatch):
    monkeypatch.setattr(litert, "filter_scale", litert.power_of_two)
    (tmp_path / "int8.tflite").write_bytes(litert.litert_model(subject.program, {}))
    candidate = CANDIDATES[key]
    found = compare(replace(subject, folder=tmp_path), candidate, traced=0)
    record(results, subject, "filter scales of exact powers of two", candidate, found)
    assert (found.different > 0) == differs


@needs_vnni
def test_an_exact8_program_differs_in_openvino_but_not_in_onnx_runtime(results, tmp_path):
    subject = make_subject(Network("vargconvnet_32", 32, 96, 1, 1), tmp_path, EXACT8)
    for key, differs in (("openvino-f32", True), ("onnxruntime-qdq-int8", False)):
        found = compare(subject, CANDIDATES[key], traced=0)
        record(results, subject, "exact8 in place of portable", CANDIDATES[key], found)
        assert (found.different > 0) == differs, key


@first_network
@pytest.mark.skipif(
    lacks_vnni() or "avx512f" not in processor_flags(), reason="this processor has no AVX-512 with VNNI"
)
def test_openvino_saturates_without_vnni(subject, results):
    environment = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    candidate = replace(CANDIDATES["openvino-f32"], run=partial(openvino, "qdq", "f32", environment=environment))
    found = compare(subject, candidate, traced=0)
    record(results, subject, "no VNNI (ONEDNN_MAX_CPU_ISA=AVX512_CORE)", candidate, found)
    assert found.different > 0
