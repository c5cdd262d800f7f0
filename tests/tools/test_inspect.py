import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.cli import run
from tools import inspect

REPOSITORY = Path(__file__).parents[2]


class Network(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), *layers)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


@pytest.fixture
def inspected(monkeypatch, capsys):
    """What the tool prints of a network of these layers, and its exit status."""
    monkeypatch.chdir(REPOSITORY)

    def inspect_network(*layers, arguments=("mine", "--size", "8")):
        monkeypatch.setattr(sys, "argv", ["inspect", *arguments])
        if layers:
            monkeypatch.setattr(inspect, "create_model", lambda *given: Network(*layers))
        try:
            run(inspect.main)
            status = 0
        except SystemExit as ended:
            status = ended.code
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines()), default=0) <= 100
        return shown, status

    return inspect_network


def test_a_portable_network(inspected):
    shown, status = inspected(nn.ReLU())
    assert status == 0
    # 3 x 3 x 3 x 4 weights at 8 x 8 places and 4 x 10; biases, and a scale and a shift of the BatchNorm
    assert "mine at 8 x 8 pixels\n170 parameters, 6,952 multiply-accumulates\n" in shown
    rows = [line.split(None, 2) for line in shown.partition("becomes\n")[2].partition("\n\n")[0].splitlines()]
    assert rows == [
        ["batch_norm", "1", "part of the operation beside it"],
        ["conv2d", "1", "conv"],
        ["linear", "1", "linear"],
        ["mean", "1", "conv with one weight, flatten"],
        ["relu", "1", "part of the operation beside it"],
    ]
    assert "In portable arithmetic it can be quantized.\n" in shown
    # a map of 256 values and 27, rounded up to 32, from which one is computed; weights (4 and 10 rows of 32, 8 x 8 for
    # each of 4 channels), biases (4 + 4 + 10) and shifts (4 + 4) of 4 bytes, and the exponents of 10 logits
    assert "In C: 288 bytes of activations (RAM), 818 of constants (flash), at most " in shown


def test_what_is_not_portable_is_tried_in_the_other_arithmetic(inspected):
    shown, status = inspected(nn.SiLU())
    assert status == 0
    assert "silu            1  table of 256 integers (not portable)\n" in shown
    assert "In portable arithmetic it cannot be quantized:\n- portable arithmetic has no" in shown
    assert "In exact8 arithmetic it can be quantized.\n" in shown
    shown, status = inspected(nn.SiLU(), arguments=("mine", "--size", "8", "--arithmetic", "portable"))
    assert status == "error: mine cannot be quantized, for the reasons above"
    assert "exact8 arithmetic it" not in shown


def test_all_that_is_refused(inspected):
    shown, status = inspected(nn.GroupNorm(2, 4), nn.SiLU(), nn.InstanceNorm2d(4))
    assert status == "error: mine cannot be quantized, for the reasons above"
    assert "It cannot be quantized:\n- " in shown
    assert shown.count("refused\n") == 2
    assert "group_norm in features.2" in shown and "instance_norm in features.4" in shown


def test_a_network_that_nothing_can_export(inspected):
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.max() > 0 else -x

    shown, status = inspected(Branch())
    assert status == "error: mine cannot be quantized, for the reasons above"
    assert "operation" not in shown.partition("It cannot be quantized:")[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet19",), "error: model 'resnet19' is not known to timm; near matches: resnet18"),
        (("vargconvnet_32", "--size", "30"), "is not allowed, must be a multiple of 16, the network's total stride"),
        (("resnet18", "--size", "0"), "2"),
    ],
)
def test_mistakes(inspected, arguments, message):
    shown, status = inspected(arguments=arguments)
    assert message in str(status) and shown == ""


def test_the_state_of_random_numbers_decides_nothing(inspected):
    torch.manual_seed(1)
    first = inspected(nn.ReLU())
    torch.manual_seed(2)
    assert inspected(nn.ReLU()) == first
