"""Nested values, such as those of JSON and msgpack, in which one is changed."""

import random
from collections.abc import Callable


def replaced(value: object, draw: random.Random, odd: Callable[[random.Random], object], deeper: float) -> object:
    """A copy of nested maps and lists in which one value is odd, or missing.

    Args:
        odd: Gives an odd value.
        deeper: The probability that a value within a map or a list is replaced, in place of the whole.
    """
    if isinstance(value, dict) and value and draw.random() < deeper:
        key = draw.choice(list(value))
        if draw.random() < 0.1:
            return {each: inner for each, inner in value.items() if each != key}
        return value | {key: replaced(value[key], draw, odd, deeper)}
    if isinstance(value, list) and value and draw.random() < deeper:
        index = draw.randrange(len(value))
        return [*value[:index], replaced(value[index], draw, odd, deeper), *value[index + 1 :]]
    return odd(draw)
