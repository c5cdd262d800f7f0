"""Mistakes of users, each with the command that meets it and the line that must come."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from project import change
from torch import nn

NETWORK = """
import torch
from torch import nn
from torch.nn import functional as F


class Network(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, num_classes)
        self.limit, self.calls = nn.Parameter(torch.ones(())), 0

    def inside(self, x):
        return F.relu(x)

    def forward(self, x):
        y = self.inside(self.conv(x)).mean((2, 3))
        return self.head(y)


def build(num_classes):
    return Network(num_classes)
"""
QUANTIZE = "--size 8 --normalization none --reconstruction 0 --images 6"


class Mistake(NamedTuple):
    """What a user does wrong, the command that meets it, and the line that must come."""

    name: str
    command: str
    line: str
    edit: Callable[[], object] = lambda: None


def values(**changed: object) -> Callable[[], None]:
    """Parameters, as train__lr=1."""
    return lambda: change(Path(), **changed)


def replaced(path: str, old: str, new: str) -> Callable[[], None]:
    def edit() -> None:
        text = Path(path).read_text()
        assert old in text
        Path(path).write_text(text.replace(old, new, 1))

    return edit


def text(path: str, content: str) -> Callable[[], int]:
    return lambda: Path(path).write_text(content)


def network(old: str, new: str) -> Callable[[], None]:
    """A network of one's own, with one change."""

    def edit() -> None:
        assert old in NETWORK
        Path("net.py").write_text(NETWORK.replace(old, new))
        change(Path(), model__name="net.py:build", model__arguments={})

    return edit


def inside(expression: str) -> Callable[[], None]:
    return network("F.relu(x)", expression)


def image(path: str, shade: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)


def images(*paths: str, shade: int | None = None) -> Callable[[], None]:
    """Images of different shades, or all of one."""

    def edit() -> None:
        for number, path in enumerate(paths):
            image(path, number if shade is None else shade)

    return edit


def weights(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    shapes = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "head.weight": (3, 4), "head.bias": (3,), "limit": ()}
    return {name: torch.ones(shape) for name, shape in shapes.items()} | changed


def checkpoint(content: object) -> Callable[[], None]:
    def edit() -> None:
        Path("net.py").write_text(NETWORK)
        torch.save(content, "best.ckpt")

    return edit


def summary() -> None:
    """Results, as if all stages had run."""
    Path("metrics").mkdir(exist_ok=True)
    results = {"int_top1": 90.0, "int_top1_drop": 0.1, "mismatches": 0, "macs": 1}
    Path("metrics/summary.json").write_text(json.dumps(results))


def damaged(folder: str = "pictures/train") -> None:
    for path in Path(folder).rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])


def both(*edits: Callable[[], object]) -> Callable[[], None]:
    def edit() -> None:
        for each in edits:
            each()

    return edit


NEW = [
    Mistake("an archive", "tools.new photos.zip", r"photos\.zip is no folder.* extract", text("photos.zip", "PK")),
    Mistake(
        "one image",
        "tools.new one.png",
        r"one\.png is no folder and no list: .*expected DIR/train/<class>/",
        images("one.png"),
    ),
    Mistake("a typo in the folder", "tools.new picture", r"picture does not exist; expected DIR/train/<class>/"),
    Mistake(
        "an empty folder",
        "tools.new empty",
        r"empty holds no class folders; expected empty/<class>/<image>",
        Path("empty").mkdir,
    ),
    Mistake("one class", "tools.new pictures/train/Bag", r"pictures/train/Bag .*expected .*<class>/<image>"),
    Mistake(
        "the folder above",
        "tools.new x",
        r"x has one class only, photos; did you mean x/photos\?",
        images("x/photos/a/1.png", "x/photos/b/1.png"),
    ),
    Mistake(
        "copies of one image",
        "tools.new x",
        r"'a', 'b': a class needs two different images that can be read",
        images("x/a/1.png", "x/a/2.png", "x/b/1.png", "x/b/2.png", shade=9),
    ),
    Mistake(
        "images that are none",
        "tools.new x",
        r"'a', 'b': a class needs two different images that can be read",
        both(images(*(f"x/{each}/{n}.png" for each in "ab" for n in (1, 2))), lambda: damaged("x")),
    ),
    Mistake(
        "other classes in val",
        "tools.new x",
        r"train and val in x have different classes: only one has b, c",
        images(*(f"x/{name}/{n}.png" for name in ("train/a", "train/b", "val/a", "val/c") for n in (1, 2))),
    ),
    Mistake("a size of nothing", "tools.new pictures --size 0", r"--size 0 is not allowed, must be at least 1"),
    Mistake(
        "a network that there is not",
        "tools.new pictures --network resnet19",
        r"'resnet19' is not known to timm; near matches: resnet18",
    ),
]

OWN = f"tools.quantize net.py:build best.ckpt pictures {QUANTIZE}"
BRINGING = [
    Mistake(
        "a pickled network",
        OWN,
        r"best\.ckpt .*torch\.save\(.*state_dict\(\)",
        checkpoint(nn.Linear(2, 3)),
    ),
    Mistake("no such file", OWN, r"there is no checkpoint best\.ckpt", text("net.py", NETWORK)),
    Mistake(
        "a text in its place",
        OWN,
        r"best\.ckpt .*neither safetensors nor .* PyTorch.*; save its weights alone",
        both(checkpoint({}), text("best.ckpt", "hello")),
    ),
    Mistake(
        "half a download",
        OWN,
        r"best\.ckpt .*cut off or damaged; copy it again",
        both(checkpoint(weights()), lambda: Path("best.ckpt").write_bytes(Path("best.ckpt").read_bytes()[:900])),
    ),
    Mistake(
        "of another network",
        OWN,
        r"best\.ckpt does not fit net\.py:build: .*head\.weight.*; the network must be the one that was saved",
        checkpoint({"stem.weight": torch.ones(4, 3, 3, 3), "fc.weight": torch.ones(3, 4), "fc.bias": torch.ones(3)}),
    ),
    Mistake(
        "of other sizes",
        OWN,
        r"best\.ckpt.* conv\.weight is \[8, 3, 3, 3\] and not \[4, 3, 3, 3\]; the network must be the one",
        checkpoint(weights(**{"conv.weight": torch.ones(8, 3, 3, 3)})),
    ),
    Mistake(
        "not a number",
        OWN,
        r"best\.ckpt \(for net\.py:build\): conv\.weight holds values that are not finite",
        checkpoint(weights(**{"conv.weight": torch.full((4, 3, 3, 3), torch.nan)})),
    ),
    Mistake(
        "a misspelt network",
        f"tools.quantize resnet19 best.ckpt pictures {QUANTIZE}",
        r"'resnet19' is not known to timm.*resnet18",
        checkpoint(weights()),
    ),
    Mistake(
        "no such function",
        f"tools.quantize net.py:bild best.ckpt pictures {QUANTIZE}",
        r"net\.py:bild: there is no bild; there is: build",
        checkpoint(weights()),
    ),
    Mistake(
        "nothing published",
        "tools.quantize net.py:build best.ckpt pictures",
        r"add --size and --normalization",
        checkpoint(weights()),
    ),
    Mistake("a typo in the folder", OWN.replace("pictures", "picture"), r"picture is not there", checkpoint(weights())),
    Mistake(
        "no images",
        OWN.replace("pictures", "empty"),
        r"empty .*no images.*\.jpg",
        both(checkpoint(weights()), Path("empty").mkdir),
    ),
    Mistake(
        "a damaged image",
        OWN,
        r"pictures/train/\S+\.png: a truncated PNG file.*; leave it out",
        both(checkpoint(weights()), damaged),
    ),
    Mistake(
        "pixels to 255",
        OWN.replace("none", "123,117,104/58,57,57"),
        r"normalization\.mean.*123 / 255 = 0\.48",
        checkpoint(weights()),
    ),
    Mistake(
        "half a normalization",
        OWN.replace("none", ".5,.5,.5"),
        r"--normalization \.5,\.5,\.5 is not allowed, must be as",
        checkpoint(weights()),
    ),
    Mistake(
        "no images at all",
        OWN.replace("--images 6", "--images 0"),
        r"calibrate\.images: 0 is not allowed, must be greater than or equal to 1",
        checkpoint(weights()),
    ),
    Mistake("a bad argument", f"{OWN} --arguments {{depth", r"--arguments is not valid YAML", checkpoint(weights())),
    Mistake(
        "an unknown argument",
        f"{OWN} --arguments '{{depth: 3}}'",
        r"build\(.*depth=3.*unexpected keyword argument 'depth'",
        checkpoint(weights()),
    ),
    Mistake(
        "too few names",
        f"{OWN} --class-names names.txt",
        r"names\.txt has 1 classes, must have 3, as the checkpoint",
        both(checkpoint(weights()), text("names.txt", "cat\n")),
    ),
    Mistake(
        "names that are not there",
        f"{OWN} --class-names names.txt",
        r"--class-names names\.txt is no file: it has a name a line",
        checkpoint(weights()),
    ),
    Mistake(
        "names in another encoding",
        f"{OWN} --class-names names.txt",
        r"--class-names names\.txt is not UTF-8, in which it must be saved",
        both(checkpoint(weights()), lambda: Path("names.txt").write_bytes(b"caf\xe9\n")),
    ),
    Mistake(
        "databases of other classes",
        OWN.replace("pictures ", ""),
        r"artifacts/db/val\.lmdb has 3 classes, must have 4, as the checkpoint",
        checkpoint(weights(**{"head.weight": torch.ones(4, 4), "head.bias": torch.ones(4)})),
    ),
    Mistake(
        "a file for a folder",
        f"{OWN} --output best.ckpt",
        r"--output best\.ckpt is no folder; name one, which need not exist",
        checkpoint(weights()),
    ),
]
PARAMS = [
    Mistake(
        "a misspelt key",
        "stages.count_ops",
        r"params\.yaml: .*batchsize is not a parameter; did you mean batch_size\?",
        replaced("params.yaml", "\nbatch_size", "\nbatchsize"),
    ),
    Mistake(
        "a key in the wrong block",
        "stages.count_ops",
        r"params\.yaml: qat\.num_classes is not a parameter; allowed: accumulate, ",
        values(qat__num_classes=3),
    ),
    Mistake(
        "a text for a number",
        "stages.count_ops",
        r"epochs: 'ten' is not allowed, must be a valid integer",
        values(epochs="ten"),
    ),
    Mistake(
        "a number for a text",
        "stages.count_ops",
        r"train\.optimizer: 3 is not allowed, must be 'sgd'",
        values(train__optimizer=3),
    ),
    Mistake(
        "out of range",
        "stages.count_ops",
        r"train\.momentum: 1\.5 is not allowed, must be less than 1",
        values(train__momentum=1.5),
    ),
    Mistake(
        "a value that there is not",
        "stages.count_ops",
        r"calibrate\.arithmetic: 'exact9' .*'portable' or 'exact8'",
        values(calibrate__arithmetic="exact9"),
    ),
    Mistake(
        "too short a list",
        "stages.count_ops",
        r"augment\.color_jitter\.2 is missing; augment\.color_jitter\.3 is missing",
        values(augment__color_jitter=[0.1, 0.1]),
    ),
    Mistake(
        "too long a list",
        "stages.count_ops",
        r"augment\.color_jitter: .* is not allowed, must have at most 4 items",
        values(augment__color_jitter=[0] * 5),
    ),
    Mistake(
        "a digest that is none",
        "stages.count_ops",
        r"card\.digest: 'XYZ' is not allowed, must match pattern",
        values(card__digest="XYZ"),
    ),
    Mistake("a block as a number", "stages.count_ops", r"golden: 8 is not allowed, must be a block", values(golden=8)),
    Mistake(
        "a batch that does not divide",
        "stages.count_ops",
        r"batch_size 15 is not allowed, must be a multiple of .*accumulate 2",
        values(batch_size=15, train__accumulate=2),
    ),
    Mistake(
        "a threshold below every label",
        "stages.count_ops",
        r"train\.target_threshold 0\.01 is not allowed, must be between",
        values(train__target_threshold=0.01),
    ),
    Mistake(
        "padding beyond the image",
        "stages.count_ops",
        r"augment\.crop_padding 32 is not allowed, must be below input\.size",
        values(augment__crop_padding=32),
    ),
    Mistake(
        "sizes without a start",
        "stages.count_ops",
        r"train\.sizes.*epoch 1 must have a size",
        values(train__sizes={2: 16}),
    ),
    Mistake(
        "weight bits of portable",
        "stages.count_ops",
        r"weight_bits 7 needs arithmetic exact8",
        values(calibrate__weight_bits=7),
    ),
    Mistake(
        "a bound without a number",
        "stages.count_ops",
        r"gate\.metrics\.metrics/int\.json:top5: min, max or both",
        values(gate__metrics={"metrics/int.json:top5": {}}),
    ),
    Mistake(
        "a gate without a file",
        "stages.count_ops",
        r"gate\.metrics\.top5: top5 is not allowed, must be FILE\.json:KEY",
        values(gate__metrics={"top5": {"min": 9}}),
    ),
    Mistake(
        "pixels to 255",
        "stages.count_ops",
        r"model\.normalization\.mean.*127 / 255 = 0\.498",
        values(model__normalization={"mean": [127] * 3, "std": [128] * 3}),
    ),
    Mistake(
        "a tab",
        "stages.count_ops",
        r"params\.yaml is not valid YAML: .*line \d+",
        replaced("params.yaml", "  momentum", "\tmomentum"),
    ),
    Mistake(
        "a key twice",
        "stages.count_ops",
        r"params\.yaml is not valid YAML: lr occurs twice, again in line",
        replaced("params.yaml", "\nlr:", "\nlr: 1\nlr:"),
    ),
    Mistake(
        "marks of a merge",
        "stages.count_ops",
        r"params\.yaml is not valid YAML: .*line \d+",
        replaced("params.yaml", "\nlr:", "\n<<<<<<< HEAD\nlr:"),
    ),
    Mistake("an empty file", "stages.count_ops", r"params\.yaml is empty; `make recipe`", text("params.yaml", "")),
    Mistake("no file", "stages.count_ops", r"there is no params\.yaml in ", lambda: Path("params.yaml").unlink()),
]

TRAINING = [
    Mistake(
        "batches above the images",
        "stages.train_float",
        r"there are 72 training images, fewer than batch_size 80 and qat\.batch_size 96: set 72",
        values(batch_size=80, qat__batch_size=96),
    ),
    Mistake(
        "other classes",
        "stages.train_float",
        r"has 3 classes, but model\.num_classes is 4",
        values(model__num_classes=4),
    ),
    Mistake(
        "a misspelt network",
        "stages.train_float",
        r"vargconvnet_23.*vargconvnet_32",
        values(model__name="vargconvnet_23"),
    ),
    Mistake(
        "an argument that there is not",
        "stages.train_float",
        r"vargconvnet_32 does not take the arguments \(model\.arguments\) .*'chanels'",
        values(model__arguments={"chanels": [8, 8, 8, 16, 16]}),
    ),
    Mistake(
        "a size that does not divide",
        "stages.train_float",
        r"img_size \(input\.size\) 33 is not allowed, must be a multiple of 16",
        values(input__size=33),
    ),
    Mistake(
        "no CUDA",
        "stages.train_float",
        r"execution\.device is cuda, but PyTorch finds 0 CUDA devices",
        values(execution__device="cuda"),
    ),
    Mistake(
        "weights that are not there",
        "stages.train_float",
        r"train\.init_from\.file w\.pt does not exist",
        values(train__init_from={"file": "w.pt", "sha256": "ab", "new_layers": []}),
    ),
    Mistake(
        "weights of another digest",
        "stages.train_float",
        r"train\.init_from\.file w\.pt has sha256 2cf24d\w+, but train\.init_from\.sha256 is 5c10: set it",
        both(values(train__init_from={"file": "w.pt", "sha256": "5c10", "new_layers": []}), text("w.pt", "hello")),
    ),
    Mistake(
        "a layer that there is not",
        "stages.train_float",
        r"train\.freeze: the network has no layer 'steem'; near matches: stem",
        values(train__freeze=["steem"]),
    ),
    Mistake(
        "a file that there is not",
        "stages.train_float",
        r"model\.name net\.py:build: there is no file net\.py",
        values(model__name="net.py:build"),
    ),
    Mistake(
        "a colon too few",
        "stages.train_float",
        r"model\.name net\.py:build: .* expected ':' \(net\.py, line 21\)",
        network("def build(num_classes):", "def build(num_classes)"),
    ),
    Mistake(
        "another name of the function",
        "stages.train_float",
        r"model\.name net\.py:build: there is no build; there is: bild",
        network("def build", "def bild"),
    ),
    Mistake(
        "an argument too few",
        "stages.train_float",
        r"model\.name net\.py:build: build\(num_classes=3\) raises TypeError .*'num_classes'",
        network("def build(num_classes)", "def build()"),
    ),
    Mistake(
        "a mistake in forward",
        "stages.train_float",
        r"net\.py:build does not take images of input\.size 32: .*rellu.* \(net\.py, line 14\)",
        inside("x.rellu()"),
    ),
    Mistake(
        "another number of logits",
        "stages.train_float",
        r"net\.py:build gives \(2, 4\) .*not logits \[images, 3\]: see model\.arguments",
        network("nn.Linear(4, num_classes)", "nn.Linear(4, 4)"),
    ),
    Mistake(
        "dropout that stays on",
        "stages.train_float",
        r"net\.py:build cannot be quantized.*dropout.*: pass training=self\.training",
        inside("F.dropout(x)"),
    ),
    Mistake(
        "a mean of the batch",
        "stages.train_float",
        r"net\.py:build cannot be quantized.* images of a batch.*: name the other dimensions",
        inside("x * x.mean()"),
    ),
    Mistake(
        "a package that is missing",
        "stages.train_float",
        r"model\.name net\.py:build: the import of net\.py raises ModuleNotFoundError .*einopsy",
        network("import torch\n", "import torch\nimport einopsy\n"),
    ),
    Mistake(
        "an if on values",
        "stages.train_float",
        r"net\.py:build cannot be quantized.* depends on the values of the image .*net\.py:14",
        inside("F.relu(x) if x.max() > 3 else x"),
    ),
    Mistake(
        "logits in a dictionary",
        "stages.train_float",
        r"net\.py:build gives a dict .*not logits \[images, 3\]",
        network("return self.head(y)", "return {'logits': self.head(y)}"),
    ),
    Mistake(
        "an operation that there is not",
        "stages.train_float",
        r"net\.py:build cannot be quantized, so it is not trained: cumsum .*docs/networks\.md",
        inside("torch.cumsum(x, 1)"),
    ),
    Mistake(
        "an operation of exact8",
        "stages.train_float",
        r"net\.py:build cannot be quantized, .*set .*calibrate\.arithmetic.* to exact8",
        inside("F.silu(x)"),
    ),
    Mistake(
        "a change that there is not",
        "stages.train_float",
        r"augment\.extra noise\.py:noise: there is no file noise\.py",
        values(augment__extra="noise.py:noise"),
    ),
    Mistake(
        "a change without a function",
        "stages.train_float",
        r"augment\.extra.*noise\.py is not allowed, must be FILE\.py:FUNCTION",
        values(augment__extra="noise.py"),
    ),
    Mistake(
        "a change that gives floats",
        "stages.train_float",
        r"augment\.extra noise\.py:noise gives torch\.float32 .*, must give a tensor of torch\.uint8",
        both(
            values(augment__extra="noise.py:noise"),
            text("noise.py", "def noise(pixels, generator):\n    return pixels / 2\n"),
        ),
    ),
    Mistake(
        "a change that is no Python",
        "stages.code",
        r"augment\.extra noise\.py:noise: \S+noise\.py, line 1 is no Python",
        both(values(augment__extra="noise.py:noise"), text("noise.py", "def noise(\n")),
    ),
    Mistake(
        "a stage too early",
        "stages.calibrate",
        r"artifacts/float/model\.safetensors does not exist; `make train-float` makes it",
    ),
    Mistake(
        "no databases",
        "stages.train_float",
        r"artifacts/db/train\.lmdb does not exist; `make pack` makes it",
        lambda: shutil.rmtree("artifacts"),
    ),
]

PACKING = [
    Mistake(
        "a misspelt root",
        "stages.pack --split-name train",
        r"picture/train is not a folder; expected picture/train/<class>/<image>",
        values(pack__root="picture"),
    ),
    Mistake(
        "a split that there is not",
        "stages.pack --split-name val",
        r"pictures/test is not a folder; expected pictures/test/<class>/<image>",
        values(pack__splits__val="test"),
    ),
    Mistake(
        "a damaged image",
        "stages.pack --split-name train",
        r"image \S+\.png \(pictures/train/\S+\): a truncated PNG file.*; on_bad_image: skip",
        damaged,
    ),
    Mistake(
        "the other source",
        "stages.pack --split-name train",
        r"pictures/annotations/instances_train\.json does not exist; it should describe the images",
        values(pack__source="coco"),
    ),
    Mistake(
        "torchvision without a name",
        "stages.pack --split-name train",
        r"pack\.dataset is null: name a class of torchvision\.datasets",
        values(pack__source="torchvision"),
    ),
    Mistake(
        "a size of original",
        "stages.pack --split-name train",
        r"pack\.encoding: size 64 does not go with type original, which has size null",
        values(pack__encoding__size=64),
    ),
    Mistake(
        "a split too many", "stages.pack --split-name test", r"--split-name: invalid choice: 'test' .*'train', 'val'"
    ),
]

TOOLS = [
    Mistake(
        "a gate on a file that there is not",
        "tools.gate",
        r"gate\.metrics: there is no file metrics/int\.json; name one that `make repro` makes",
        both(summary, values(gate__metrics={"metrics/int.json:top5": {"min": 99}})),
    ),
    Mistake(
        "a gate on a number that there is not",
        "tools.gate",
        r"gate\.metrics: metrics/summary\.json has no top6, it has: int_top1, ",
        both(summary, values(gate__metrics={"metrics/summary.json:top6": {"min": 99}})),
    ),
    Mistake("a revision that there is not", "tools.gate --against mainn", r"dvc metrics diff mainn: .*mainn", summary),
    Mistake(
        "a shard too many",
        "stages.pack --split-name train --shard 3/2",
        r"--shard: '3/2' is not allowed, must be K/N with 1 <= K <= N",
    ),
    Mistake(
        "an image that is not there",
        "tools.predict cat.png",
        r"cat\.png does not exist",
    ),
    Mistake("a form that there is not", "tools.predict --step in8 cat.png", r"--step: invalid choice: 'in8' .*int"),
    Mistake("no results", "tools.gate", r"metrics/summary\.json does not exist; `make validate` makes it"),
    Mistake("no results to show", "tools.page", r"metrics/summary\.json does not exist; `make validate` makes it"),
    Mistake(
        "a recipe that there is not", "tools.recipe imagenett", r"no recipes/imagenett\.yaml; there are: .*\bimagenet\b"
    ),
    Mistake(
        "a network that there is not",
        "tools.inspect resnet19",
        r"'resnet19' is not known to timm; near matches: resnet18",
    ),
    Mistake("no run", "tools.watch", r"no run in runs has made a step yet; `make train-float` starts one"),
    Mistake(
        "a class that there is not",
        "tools.view artifacts/db/val.lmdb --label Bagg",
        r"artifacts/db/val\.lmdb has no class 'Bagg'; the nearest is 'Bag'",
    ),
    Mistake("too many records", "tools.view artifacts/db/val.lmdb -n 99", r"-n 99 is not allowed, must be 1 to 24"),
    Mistake(
        "a database that there is not", "tools.view artifacts/db/test.lmdb", r"artifacts/db/test\.lmdb does not exist"
    ),
    Mistake(
        "golden vectors that there are not",
        "stages.golden --check device",
        r"artifacts/int/model\.safetensors does not exist; `make convert-int` makes it",
    ),
]

COMMANDS = [
    Mistake("a misspelt target", "make trian-float", r"there is no target trian-float; make help lists them"),
    Mistake("a misspelt variable", "make sweep LRS=0.1", r"there is no variable LRS, must be one of .*\bLR\b"),
    Mistake("a list with blanks", "make sweep LR=0.02 0.05", r"there is no target 0\.05; .*values have commas"),
    Mistake(
        "a list with words", "make sweep LR=low,high", r"error: LR=low,high is not allowed, must be numbers with commas"
    ),
    Mistake("no workers", "make sweep LR=0.1 JOBS=0", r"error: JOBS=0 is not allowed, must be 1 or more"),
    Mistake("no images", "make new", r"error: no images; e\.g\. make new DATA=photos"),
    Mistake(
        "no checkpoint",
        "make quantize MODEL=resnet18",
        r"error: name both; e\.g\. make quantize MODEL=resnet18 CHECKPOINT=",
    ),
    Mistake("a misspelt key", "dvc exp run -S lrr=1", r"Could not override 'lrr'"),
    Mistake("no value", "dvc exp run -S lr", r"Error parsing override 'lr'"),
    Mistake("a list without --queue", "dvc exp run -S lr=0.1,0.2", r"Sweep overrides can't be used without `?--queue"),
    Mistake("a misspelt stage", "dvc repro train", r"Stage 'train' not found"),
]
ALL = [*NEW, *BRINGING, *PARAMS, *TRAINING, *PACKING, *TOOLS, *COMMANDS]
