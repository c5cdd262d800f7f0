"""How much stack network.c needs: a bound from its text, the same on every machine."""

import re
from functools import cache

# Of each function in a chain of calls, besides its arrays: registers that it saves, values that a compiler keeps there,
# arguments. Tests compare it with what gcc reports for x86-64 and Arm.
FRAME = 256
SIZES = {"int8_t": 1, "int16_t": 2, "int32_t": 4}
FUNCTION = re.compile(r"^(?:static )?(?:APART )?\w+ (\w+)\([^;{]*\)\n\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)


def stack_bytes(source: str) -> int:
    """Bytes of stack that network_run needs at most, given the text of network.c: its deepest chain of calls.

    Each function counts FRAME bytes and its arrays. No function calls itself.
    """
    sizes = dict(re.findall(r"enum { (\w+) = (\d+) };", source))
    bodies = dict(FUNCTION.findall(source))

    @cache
    def deepest(function: str) -> int:
        body = bodies[function]
        arrays = re.findall(r"^ +(int\d+_t) \w+\[(\w+)\];", body, re.MULTILINE)
        own = sum(SIZES[dtype] * int(sizes.get(count, count)) for dtype, count in arrays)
        called = {*re.findall(r"\b(\w+)\(", body)} & bodies.keys()
        return FRAME + own + max(map(deepest, called), default=0)

    return max(map(deepest, bodies), default=0)
