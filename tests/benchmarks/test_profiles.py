import os

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from benchmarks import profiles
from benchmarks.profiles import called, compared, explained, of_onnx, operations, sampled, top
from benchmarks.results import Result


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(profiles, "SECONDS", 0.2)


def test_the_slower_ones_are_explained_beside_the_best_of_their_rivals():
    def measured(name, *values):
        return Result("train", "c", name, "images/s", values)

    results = [measured("ours", 8.0), measured("slow", 4.0), measured("fast", 10.0), measured("ours too", 11.0)]
    rivals = {"ours": ("slow", "fast", "absent"), "ours too": ("fast",), "slow": ("absent",)}
    told = explained(results, rivals, lambda one, other: f"{one} beside {other}")
    assert [each.profile for each in told] == ["0.80 times as good as fast; ours beside fast", "", "", ""]
    failed = [Result("train", "c", "ours", "images/s", error="E"), measured("fast", 1.0)]
    assert explained(failed, rivals, lambda one, other: "") == failed


def test_the_largest_shares_are_told_in_their_order():
    assert top({"a": 0.1, "b": 0.5, "c": 0.004, "d": 0.3, "e": 0.05, "f": 0.046}) == "50 % b, 30 % d, 10 % a, 5 % e"


def test_functions_are_named_by_their_own_time():
    def busy():
        return sum(number * number for number in range(100_000))

    assert called(busy).startswith("cProfile: ") and "`<genexpr>` of benchmarks/test_profiles.py" in called(busy)
    assert " % `" in sampled(busy)


def test_perf_that_is_not_allowed_leaves_the_word_to_cprofile(tmp_path, monkeypatch):
    perf = tmp_path / "perf"
    perf.write_text("#!/bin/sh\nexit 255\n")
    perf.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(profiles, "PATIENCE", 0.1)
    assert sampled(lambda: sorted(range(1000))).startswith("cProfile: ")


def test_operations_of_pytorch_and_what_one_has_more_than_another():
    x = torch.randn(400, 400)
    times = operations(lambda: x @ x)
    assert max(times, key=times.__getitem__) == "`aten::mm`"
    text = compared(lambda: (x @ x).exp(), lambda: x @ x)
    assert "`aten::exp`" in text.split("; of the difference: ")[1]


def test_operators_of_onnx(tmp_path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [200, 200])],
        [value("y", TensorProto.FLOAT, [200, 200])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    assert of_onnx(tmp_path / "net.onnx", np.ones((200, 200), np.float32), 1).endswith("100 % `MatMul`")
