"""Programs as JSON and constants, with something changed in them."""

import copy
import json
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fixedpoint.program import Program

Constants = dict[str, Tensor]

NAMES = ["", "input", "x", "logits", "..", "../../x", "/abs/x", "conv/3x3", "a b", "é", "x" * 300, "/" * 90, "\0"]
NAMES += ["x.y", "x*\\\n/ int y; /*", "*/", "a\nb", "%s", "..%2Fx", "flat", "a:b", "-o", ".", "<b>"]
NUMBERS = [0, 1, -1, 2, 3, 7, 8, 63, 126, 127, 128, -126, -200, 200, 2**16, 2**31 - 1, 2**31, -(2**31), 10**9, -(10**9)]
NUMBERS += [2**63, 10**400, -(10**400), 0.0, 0.5, -0.5, 1e30, 1e300, -1e38, 5e-324, float("nan"), float("inf")]
ODD = [None, True, False, "", "7", [], {}, [[]], [1], [1, 1], [None, None], {"kind": "conv"}, [0, 0, 0, 0]]
DTYPES = [torch.int8, torch.int32, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.float16]


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """The path of each value in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*path, key))


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def of_json(value: dict, rng: random.Random) -> None:
    """Change one entry anywhere."""
    *path, last = rng.choice(list(places(value))[1:])
    holder = value
    for key in path:
        holder = holder[key]
    match rng.randrange(8):
        case 0 if isinstance(holder, dict) or len(holder) > 1:
            del holder[last]
        case 1 if isinstance(holder, list):
            holder.insert(last, copy.deepcopy(rng.choice(holder)))
        case 2 if isinstance(holder, dict):
            holder[rng.choice(NAMES)] = rng.choice(NUMBERS + ODD)
        case 3:
            holder[last] = rng.choice(ODD)
        case 4:
            holder[last] = rng.choice(NAMES)
        case 5 if isinstance(holder[last], int | float):
            holder[last] += rng.choice([-2, -1, 1, 2, 8])
        case 6:
            holder[last] = nested(rng.choice([1, 100_000]))
        case _:
            holder[last] = rng.choice(NUMBERS)


def of_operations(value: dict, rng: random.Random) -> None:
    """Change the order of operations, what one reads, or its kind."""
    ops = value["ops"]
    a, b = rng.randrange(len(ops)), rng.randrange(len(ops))
    match rng.randrange(4):
        case 0:
            ops[a], ops[b] = ops[b], ops[a]
        case 1 if ops[a]["inputs"]:
            ops[a]["inputs"][rng.randrange(len(ops[a]["inputs"]))] = ops[b]["name"]
        case 2:
            ops[a]["kind"] = ops[b]["kind"]
        case _:
            ops.insert(a, copy.deepcopy(ops[b]))


def of_names(value: dict, constants: Constants, rng: random.Random) -> Constants:
    """Give an operation another name, everywhere."""
    old, new = rng.choice(value["ops"])["name"], rng.choice(NAMES)
    for op in value["ops"]:
        op["name"] = new if op["name"] == old else op["name"]
        op["inputs"] = [new if name == old else name for name in op["inputs"]]
    value["exponents"] = {new if name == old else name: e for name, e in value["exponents"].items()}
    owners = {key: key.rpartition(".")[::2] for key in constants}
    return {f"{new if o == old else o}.{part}": constants[key] for key, (o, part) in owners.items()}


def of_constants(constants: Constants, rng: random.Random) -> None:
    """Change the type, the shape, the presence or a value of one constant."""
    name = rng.choice(sorted(constants))
    tensor = constants[name].clone()
    match rng.randrange(8):
        case 0:
            del constants[name]
            return
        case 1:
            constants[rng.choice([name + "s", "x.y", "weight", f"{rng.choice(NAMES)}.weight"])] = tensor
            return
        case 2:
            tensor = tensor.to(rng.choice(DTYPES))
        case 3:
            tensor = rng.choice([tensor[1:], tensor[:-1], tensor[None], tensor.flatten(), torch.cat([tensor, tensor])])
        case 4 if tensor.is_floating_point():
            tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice([np.nan, np.inf, -np.inf, 3e38, 1e-44, 1e9])
        case 5:
            tensor.fill_(rng.choice([0, 1, 127, -128]))
        case _ if tensor.dtype in (torch.int8, torch.int32, torch.float32):
            raw = tensor.contiguous().view(-1).view(torch.uint8)
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    constants[name] = tensor


def mutated(program: Program, rng: random.Random) -> tuple[dict, Constants]:
    """A program with one to three changes."""
    value, constants = json.loads(json.dumps(program.to_json())), dict(program.constants)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        try:
            match rng.randrange(6):
                case 0:
                    of_operations(value, rng)
                case 1:
                    constants = of_names(value, constants, rng)
                case 2 | 3 if constants:
                    of_constants(constants, rng)
                case _:
                    of_json(value, rng)
        except (TypeError, KeyError, AttributeError, IndexError, ValueError, RecursionError):
            pass  # an earlier change has left nothing of the kind
    return value, constants
