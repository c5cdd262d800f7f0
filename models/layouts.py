"""Finding a network's weights in what trainers save, by their names.

| who | where the weights are | before each name |
|---|---|---|
| torch.save(model.state_dict()), torchvision, timm, Hugging Face | the file itself | |
| DataParallel, DDP, torch.compile, FSDP | anywhere | `module.`, `_orig_mod.`, `_fsdp_wrapped_module.` |
| timm's train.py | `state_dict`, averaged `state_dict_ema` | |
| torchvision's references | `model`, averaged `model_ema` | averaged: `module.` |
| Lightning | `state_dict` | the attribute of the LightningModule, `model.` or `net.` |
| MMPretrain | `state_dict`, averaged if there is an `ema_state_dict`, which then is not | `backbone.` and `head.` |
| fastai, Ignite, Catalyst, ... | `model`, `model_state_dict`, `net`, `state.model`, ... | |
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.weights_file import SAVE, class_of
from storage.errors import InputError
from storage.printable import printable

WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AVERAGED = re.compile(r"(^|[._])(ema|averaged?|swa)([._]|$)", re.I)
DEPTH = 4  # of dictionaries in one another


@dataclass(frozen=True)
class Weights:
    """Weights in a file, under the network's names.

    Attributes:
        place: The keys of the dictionary that holds them, joined by dots.
        prefix: What stands before the names there.
        tensors: The tensors; also those below the prefix that the network does not have.
        left: The dictionary's other tensors, by their names there.
        more: Another prefix, of names that are missing under the first.
    """

    place: str
    prefix: str
    tensors: dict[str, Tensor]
    left: dict[str, Tensor]
    more: str = ""

    @property
    def name(self) -> str:
        """Where they are, for messages."""
        parts = [f"in {self.place}"] if self.place else []
        parts += [f"without {printable(each)}" for each in (self.prefix, self.more) if each]
        return printable(" ".join(parts) or "the file's own names", 300)

    @property
    def is_averaged(self) -> bool:
        """Whether they are an average of the weights over training."""
        return AVERAGED.search(f"{self.place}.{self.prefix}") is not None


def find_weights(contents: Any, expected: Mapping[str, Tensor], what: str) -> Weights:
    """The weights in a file that have most of the network's names; of several, the averaged ones.

    Args:
        contents: What the file holds (`models.weights_file.read_contents`).
        expected: The network's tensors by name.
        what: The file's name in messages.

    Raises:
        InputError: If no dictionary of tensors is there, or several are that fit equally well and differ.
    """
    tables = dict(_tables(contents))
    found = [weights for place, table in tables.items() for weights in _below_prefixes(place, table, expected)]
    fits = [_fit(weights.tensors, expected) for weights in found]
    classes = {class_of(each) for each in contents.values()} - {None} if isinstance(contents, dict) else set()
    if not found or (classes and max(fits) == (0, 0)):
        objects = f", but objects of {', '.join(sorted(map(str, classes)))}" if classes else ""
        raise InputError(f"{what} holds no weights by name{objects}: {SAVE}")
    best = [weights for weights, fit in zip(found, fits, strict=True) if fit == max(fits)]
    best = [weights for weights in best if weights.is_averaged] or best
    if any(not _equal(best[0].tensors, other.tensors) for other in best[1:]):
        places = " and ".join(weights.name for weights in best)
        raise InputError(f"{what} holds several weights that fit ({places}): save those that you mean alone, in a file")
    return best[0]


def _fit(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many of the names are there, and how many with the right shape."""
    common = tensors.keys() & expected.keys()
    return len(common), sum(tensors[name].shape == expected[name].shape for name in common)


def _tables(contents: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each dictionary with tensors by name, and its place; names without those of wrappers."""
    if not isinstance(contents, dict) or len(place) > DEPTH:
        return
    named = {key: value for key, value in contents.items() if isinstance(key, str)}
    if tensors := {name: value for name, value in named.items() if isinstance(value, Tensor)}:
        unwrapped = {WRAPPERS.sub("", name): value for name, value in tensors.items()}
        yield ".".join(place), unwrapped if len(unwrapped) == len(tensors) else tensors
    for key, value in named.items():
        if key == "ema_state_dict" and "message_hub" in contents:
            continue  # MMEngine swaps the two: the averaged weights are in state_dict
        yield from _tables(value, (*place, key))


def _below_prefixes(place: str, table: dict[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[Weights]:
    """The weights below each prefix that stands before names of the network, or the whole table."""
    below: dict[str, set[str]] = defaultdict(set)  # names of the network by prefix
    for full in table:
        parts = full.split(".")
        for count in range(len(parts)):
            if (name := ".".join(parts[count:])) in expected:
                below["".join(f"{part}." for part in parts[:count])].add(name)
    for prefix in below or [""]:
        tensors = {name.removeprefix(prefix): value for name, value in table.items() if name.startswith(prefix)}
        missing = expected.keys() - tensors.keys()
        others = [other for other, names in below.items() if names <= missing and other != prefix]
        most = max((len(below[other]) for other in others), default=0)
        more = [other for other in others if len(below[other]) == most]
        second = more[0] if len(more) == 1 and prefix else ""
        if second:
            tensors |= {name: table[f"{second}{name}"] for name in below[second]}
        used = {f"{each}{name}" for each in (prefix, second) for name in tensors}
        yield Weights(place, prefix, tensors, {name: table[name] for name in table if name not in used}, second)


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
