"""Networks of the user's own, by the name of a file or of a module."""

import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import nn

from models.own_source import is_own, locate
from models.registry import create_model
from storage.errors import InputError

NETWORK = """
from torch import nn

def build(num_classes, width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes files below an empty current folder; what tests import is forgotten at the end."""
    path = [*sys.path]
    monkeypatch.chdir(tmp_path)

    def write_files(**texts: str) -> None:
        for name, text in texts.items():
            file = (tmp_path / name.replace("__", "/")).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text))

    yield write_files
    sys.path[:] = path
    for name, module in [*sys.modules.items()]:
        if (getattr(module, "__file__", None) or "").startswith(f"{tmp_path}/"):
            del sys.modules[name]


def package(*folders: str) -> None:
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "__init__.py").touch()


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("nets/mine.py:build", True),
        ("../my nets/mine.py:Net", True),
        ("/a/b.py:Net.small", True),
        ("my_package.nets:build", True),
        ("mine:build", True),
        ("resnet18", False),
        ("torchvision/resnet18", False),
        ("hf-hub:timm/resnet18", False),
        ("nets/mine.py", False),
        ("nets/mine:build", False),
        ("nets/mine.py:", False),
        ("mine:build()", False),
        (":build", False),
    ],
)
def test_only_a_place_and_a_function_name_code(name, own):
    assert is_own(name) == own


def test_a_name_that_is_nearly_one_says_how_it_is_written():
    for name in ("nets/mine.py", "nets/mine:build"):
        with pytest.raises(InputError, match=r"a network of your own is nets/mine\.py:FUNCTION or PACKAGE\.MODULE:FUN"):
            create_model(name, 3, 8, {})


def test_a_file_with_what_lies_beside_it(write):
    write(
        theirs__mine="from blocks_beside import block\n" + NETWORK.replace("nn.Conv2d(3, width, 3)", "block(width)"),
        theirs__blocks_beside="from torch import nn\n\ndef block(width):\n    return nn.Conv2d(3, width, 5)\n",
    )
    network = create_model("theirs/mine.py:build", 7, 8, {"width": 6})
    assert network[0].weight.shape == (6, 3, 5, 5)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize("stem", ["models", "training", "torch", "json"])
def test_a_file_may_have_any_name(write, stem):
    write(**{f"theirs__{stem}": NETWORK})
    assert create_model(f"theirs/{stem}.py:build", 5, 8, {})[3].out_features == 5


def test_a_file_in_a_package_may_import_relatively(write):
    write(
        own_package__nets__mine="from ..blocks import WIDTH\n" + NETWORK.replace("width=4", "width=WIDTH"),
        own_package__blocks="WIDTH = 9\n",
    )
    package("own_package", "own_package/nets")
    assert create_model("own_package/nets/mine.py:build", 5, 8, {})[0].out_channels == 9


def test_modules_on_the_path(write, monkeypatch, tmp_path):
    write(elsewhere__own_module=NETWORK, elsewhere__own_space__mine=NETWORK)
    with pytest.raises(InputError, match=r"Python finds no own_module: it must be in .*, installed, or on PYTHONPATH"):
        create_model("own_module:build", 5, 8, {})
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    for name in ("own_module:build", "own_space.mine:build"):  # the second without __init__.py
        assert create_model(name, 5, 8, {})[3].out_features == 5
        assert locate(name).root == tmp_path / "elsewhere"
    with pytest.raises(InputError, match=r"there is no module own_space\.yours in "):
        create_model("own_space.yours:build", 5, 8, {})
    with pytest.raises(InputError, match="Python finds no sys"):
        create_model("sys:exit", 5, 8, {})


def test_a_class_is_a_function_too_and_the_number_of_classes_may_be_its_own(write):
    write(
        mine="""
        from torch import nn

        class Net(nn.Module):
            def __init__(self, num_classes=11):
                super().__init__()
                self.fc = nn.Linear(3, num_classes)

            @classmethod
            def small(cls, **given):
                return cls(**given)
        """
    )
    assert create_model("mine.py:Net", None, 8, {}).fc.out_features == 11
    assert create_model("mine.py:Net.small", 5, 8, {}).fc.out_features == 5


def test_its_input_may_be_normalized(write):
    write(mine=NETWORK)
    network = create_model("mine.py:build", 5, 8, {}, {"mean": [0.5] * 3, "std": [0.25] * 3})
    assert isinstance(network.network[0], nn.Conv2d)


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        ("x = 1", "build", "there is no build; there is: nothing that can be called$"),
        ("def bild(): pass", "build", "there is no build; there is: bild$"),
        ("build = 3", "build", "build is a int, must be a function"),
        ("from torch import nn\nbuild = nn.Linear(1, 1)", "build", "build is a Linear, must be a function"),
        (
            "def build(num_classes):\n    pass",
            "build",
            r"build\(num_classes=3\) gives None, must give a torch.nn.Module",
        ),
        ("def build(num_classes):\n    return 1, 2", "build", "gives a tuple, must give"),
        ("def build(classes): pass", "build", r"build\(num_classes=3\) raises TypeError .*argument 'num_classes'"),
        ("\ndef build(num_classes):\n    {}['x']", "build", r"raises KeyError 'x' \(mine.py, line 3\)$"),
        ("raise SystemExit(2)", "build", r"the import of mine.py raises SystemExit 2 \(mine.py, line 1\)"),
        ("\ndef build(:", "build", r"the import of mine.py raises SyntaxError .*\(mine.py, line 2\)"),
        ("import no_such_package", "build", r"raises ModuleNotFoundError No module named 'no_such_package' \(mine.py,"),
        ("from .x import y", "build", "raises ImportError attempted relative import with no known parent package"),
        (
            "from torch import nn\n\ndef build(num_classes):\n    return nn.ReLU()",
            "build",
            "the network has no weights",
        ),
        (
            "from torch import nn\n\ndef build(num_classes):\n    return nn.Linear(3, 3, device='meta')",
            "build",
            "weight has no size or no values yet",
        ),
        (
            "from torch import nn\n\ndef build(num_classes):\n    return nn.LazyLinear(3)",
            "build",
            "weight has no size or no values yet, as in lazy layers",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(write, text, function, message):
    write(mine=text)
    with pytest.raises(InputError, match=f"^model.name mine.py:{function}: .*{message}") as raised:
        create_model(f"mine.py:{function}", 3, 8, {})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("wrapper", ["torch.compile", "torch.nn.DataParallel"])
def test_a_wrapper_is_taken_off(write, wrapper):
    write(mine=f"import torch\n{NETWORK.replace('def build', 'def bare')}")
    with Path("mine.py").open("a") as file:
        file.write(f"\ndef build(num_classes):\n    return {wrapper}(bare(num_classes))\n")
    assert [*create_model("mine.py:build", 5, 8, {}).state_dict()] == ["0.weight", "0.bias", "3.weight", "3.bias"]


def test_other_mistakes(write):
    write(mine=NETWORK)
    with pytest.raises(InputError, match=r"there is no file nets/mine\.py in /"):
        create_model("nets/mine.py:build", 3, 8, {})
    with pytest.raises(InputError, match="num_classes cannot be among"):
        create_model("mine.py:build", 3, 8, {"num_classes": 4})
    with pytest.raises(InputError, match=r"build\(num_classes=3, wide=1\) raises TypeError .*'wide'"):
        create_model("mine.py:build", 3, 8, {"wide": 1})


def test_names_that_are_taken_are_told(write):
    write(theirs__mine="from models.blocks import x\n", theirs__models__blocks="x = 1\n")
    with pytest.raises(
        InputError, match=r"No module named 'models.blocks'.*; the name models is also that of .*rename"
    ):
        create_model("theirs/mine.py:build", 3, 8, {})
    write(theirs__models__net=NETWORK)
    package("theirs/models")
    with pytest.raises(InputError, match=r"the name models is also that of .*rename"):
        create_model("theirs/models/net.py:build", 3, 8, {})
