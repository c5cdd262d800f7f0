"""A network that cannot be quantized is not trained."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline import quantizable
from pipeline.params import Params, load_params
from pipeline.quantizable import arithmetic_for, refuse_unquantizable
from stages import train_float
from storage.errors import InputError

REPOSITORY = Path(__file__).parents[2]
BAD = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.GroupNorm(2, 4), nn.Conv2d(4, 10, 1), nn.Flatten())


def changed(arithmetic="portable"):
    given = load_params(REPOSITORY / "params.yaml").model_dump()
    given["calibrate"]["arithmetic"] = arithmetic
    given["augment"]["crop_padding"] = given["qat"]["augment"]["crop_padding"] = 1
    given["input"]["size"], given["model"] = 3, given["model"] | {"name": "mine", "arguments": {}}
    return Params.model_validate(given)


def test_one_line_has_all_causes():
    with pytest.raises(InputError, match=r"^mine cannot be quantized, so it is not trained: .*group_norm.*; .*table"):
        refuse_unquantizable(BAD, changed())


def test_the_arithmetic_is_that_of_calibrate():
    with pytest.raises(InputError) as raised:
        refuse_unquantizable(BAD, changed("exact8"))
    assert "table" not in str(raised.value)
    refuse_unquantizable(nn.Sequential(*BAD[:2], *BAD[3:]), changed("exact8"))


def test_one_of_several_processes_is_enough(monkeypatch):
    monkeypatch.setattr(quantizable, "own_rank", lambda processes: 1)
    refuse_unquantizable(BAD, changed())


def test_train_float_refuses_before_it_trains(monkeypatch):
    classes = [str(number) for number in range(10)]
    monkeypatch.setattr("sys.argv", ["train_float"])
    monkeypatch.setattr(train_float, "load_params", changed)
    monkeypatch.setattr(train_float, "prepare", lambda execution: torch.device("cpu"))
    monkeypatch.setattr(train_float, "open_database", lambda *given: SimpleNamespace(class_names=classes))
    monkeypatch.setattr(train_float, "create_model", lambda *given: BAD)
    monkeypatch.setattr(train_float, "fit_stage", lambda *given: pytest.fail("it trains"))
    with pytest.raises(InputError, match=r"^mine cannot be quantized, so it is not trained: .* table"):
        train_float.main()


def test_the_arithmetic_that_a_network_needs():
    assert arithmetic_for(nn.Sequential(BAD[0], nn.ReLU(), *BAD[3:]), "mine", 3)[0] == "portable"
    needed, why = arithmetic_for(nn.Sequential(*BAD[:2], *BAD[3:]), "mine", 3)
    assert (needed, why) == ("exact8", "portable arithmetic has no products of tensors and no tables")
    with pytest.raises(InputError, match=r"^mine cannot be quantized: .*group_norm"):
        arithmetic_for(BAD, "mine", 3)
