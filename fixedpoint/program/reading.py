"""From JSON values to the attributes of a program and its operations, each of the type that its annotation says."""

from dataclasses import fields
from reprlib import repr as shortened
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch

from fixedpoint.errors import QuantizationError
from fixedpoint.program.operation import Op
from fixedpoint.program.ops import OPS

LARGEST = {int: 2**31 - 1, float: torch.finfo(torch.float32).max}  # what C's and ONNX's numbers hold


def attributes(cls: type, value: Any, others: set[str], what: str) -> dict[str, Any]:
    """The fields of the dataclass `cls` as `value`, a JSON object, has them.

    Args:
        others: Fields that are not in the object.
        what: What the object is, for messages.

    Raises:
        QuantizationError: If the object has not these entries, or one is of another type.
    """
    names = {field.name for field in fields(cls)} - others
    if not isinstance(value, dict) or set(value) != names:
        raise QuantizationError(f"{what} {shortened(value)} is not one of this version")
    hints, own = get_type_hints(cls), value.get("name")
    what = own if isinstance(own, str) else what
    return {name: typed(value[name], hints[name], f"{what}: {name}") for name in sorted(names)}


def typed(value: Any, hint: Any, what: str) -> Any:
    """A JSON value as the type `hint`: str, bool, int, float, and tuples, dictionaries and unions of these.

    Raises:
        QuantizationError: If it is none; names `what`.
    """
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType and NoneType in parts:
        return None if value is None else typed(value, parts[0], what)
    if kind is tuple and isinstance(value, list | tuple):
        hints = parts[:1] * len(value) if parts[1:] == (...,) else parts
        if len(hints) == len(value):
            return tuple(typed(each, part, what) for each, part in zip(value, hints, strict=True))
    elif hint is Op:
        return op_from_json(value)
    elif kind is dict and isinstance(value, dict):
        return {typed(key, parts[0], what): typed(each, parts[1], f"{what} of {key}") for key, each in value.items()}
    elif kind in LARGEST and isinstance(value, int | kind) and not isinstance(value, bool):
        if abs(value) <= LARGEST[kind]:  # which NaN is not
            return kind(value)
    elif kind in (str, bool) and isinstance(value, kind):
        return value
    name = getattr(hint, "__name__", hint) if kind is hint else hint
    raise QuantizationError(f"{ascii(what)[1:-1][:200]} must be {name}, not {shortened(value)}")


def op_from_json(entry: Any) -> Op:
    """The operation that `Program.to_json` has written as `entry`.

    Raises:
        QuantizationError: If its kind or its attributes are not of this version.
    """
    what = "the program's operation"
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if not isinstance(kind, str) or kind not in OPS:
        raise QuantizationError(f"{what} {shortened(entry)} is not one of this version: {', '.join(sorted(OPS))}")
    others = {key: value for key, value in entry.items() if key != "kind"}
    return OPS[kind](**attributes(OPS[kind], others, set(), what))
