from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import deploy
from benchmarks.deploy import Measured, differing
from benchmarks.deploy_files import network_of
from benchmarks.deploy_runtimes import Contestant
from storage.errors import InputError


def test_the_share_of_logits_that_differ():
    integers = np.array([[1, 2, 3, 4]], np.int8)
    assert differing(integers, np.array([[1, 2, 3, 5]], np.int8)) == 0.25
    logits = np.array([[100.0, 1.0, 2.0, 3.0]], np.float32)
    assert differing(logits, logits + np.float32([[0, 0.009, 0.011, -0.02]])) == 0.5
    with pytest.raises(InputError, match=r"\[1, 4\] are not of the shape \[1, 3\]"):
        differing(integers, integers[:, :3])


@pytest.mark.parametrize("name", ["resnet18", "resnet18:", ":32", "resnet18:x"])
def test_a_network_needs_a_size(name):
    with pytest.raises(InputError, match="must be sample or NAME:SIZE"):
        network_of(name, 2)


def test_no_branch_of_random_weights_is_zero():
    network = network_of("test_resnet:32", 2)  # timm sets the last BatchNorm of each of its branches to zero
    weights = [value for name, value in network.model.state_dict().items() if name.endswith(".weight")]
    weights += [value for name, value in network.program.constants.items() if name.endswith(".weight")]
    assert len(weights) > 10 and all(bool(value.ne(0).any()) for value in weights)


def test_a_contestant_that_computes_something_else_is_told_with_its_share(tmp_path, monkeypatch):
    def integer(folder, x):
        return x.sum((1, 2, 3), dtype=np.float64)[:, None] * [1, 2, 3, 4]

    def contestant(name, error=0, simulated=None):
        def load(folder, threads, batch):
            if error is None:
                raise ModuleNotFoundError("No module named 'peer'")
            return lambda x: np.add(integer(folder, x), [0, 0, 0, error])

        return Contestant(name, ("net.onnx",), load, simulated)

    (tmp_path / "net.onnx").write_bytes(bytes(2**19))
    works = [
        contestant("same"),
        contestant("other", 1),
        contestant("as it simulates", 1, lambda folder, x: np.add(integer(folder, x), [0, 0, 0, 1])),
        contestant("absent", None),
    ]
    monkeypatch.setattr(deploy, "CONTESTANTS", works)
    monkeypatch.setattr(deploy, "SECONDS", 0)
    monkeypatch.setattr(deploy, "peak_memory", lambda contestant, folder: 3.0)
    network = SimpleNamespace(title="net", images=np.ones((2, 1, 2, 2), np.float32), integer=integer)
    results = Measured(network, tmp_path, {}).results([1, 2], 5)
    shares = {each.contestant: each.values for each in results if each.unit == "% of logits differ"}
    assert shares == {"same": (0,), "other": (25,), "as it simulates": (0,)}
    errors = {(each.contestant, each.column, each.error) for each in results if each.error}
    columns = [f"{images}, {threads}" for images in ("1 image", "2 images") for threads in ("1 thread", "2 threads")]
    assert errors == {("absent", each, "ModuleNotFoundError: No module named 'peer'") for each in columns}
    speeds = [each for each in results if each.unit == "images/s" and each.values]
    assert len(speeds) == 3 * 4 and all(len(each.values) == 5 for each in speeds)
    assert {each.values for each in results if each.unit == "MiB on disk"} == {(0.5,)}
    failed = Measured(network, tmp_path, {"net.onnx": "ValueError: no"}).results([1], 1)
    assert {each.error for each in failed} == {"ValueError: no"}


def test_a_slow_contestant_has_no_turns(monkeypatch):
    monkeypatch.setattr(deploy, "SLOW", -1.0)
    with pytest.raises(InputError, match=r"left out: 0\.0 s for 2 images"):
        deploy._turn(lambda x: x, np.zeros((2, 1)))
