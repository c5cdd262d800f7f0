"""A self-check for devices: network.c, golden images and their logits in one program, which prints PASS or FAIL."""

from math import prod
from string import Template

import numpy as np

from fixedpoint.c.files import NAME, check_name, read
from fixedpoint.c.text import c_array
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Program

IMAGES_BYTES = 2**16


def golden_count(images: np.ndarray) -> int:
    """How many of `images` [n, ...] go into a self-check: the first ones up to IMAGES_BYTES, at least one."""
    return min(len(images), max(1, IMAGES_BYTES // images[0].nbytes))


def c_selfcheck(program: Program, images: np.ndarray, logits: np.ndarray, name: str = NAME) -> str:
    """selfcheck.c: the main of a program that runs network.c on golden images.

    Args:
        program: An integer program.
        images: Pixels p - 128, int8 [n, channels, height, width].
        logits: The network's accumulators for them, int32 [n, classes].
        name: As in `source.c_source`; the file is then <name>_selfcheck.c.

    Raises:
        QuantizationError: If an array is of another type or shape, or the name is not allowed.
    """
    values = golden_values(images, logits, program.input_shape, program.last_layer.shape[0], "int32", "static ")
    check_name(name)
    return Template(read("selfcheck.c", name)).substitute(values)


def golden_values(
    images: np.ndarray, logits: np.ndarray, shape: tuple[int, ...], classes: int, dtype: str, storage: str = ""
) -> dict[str, object]:
    """The values in the templates of a self-check that golden data decide, by name.

    Raises:
        QuantizationError: If the logits are not `dtype` [n, classes], or the images not int8 [n, *shape].
    """
    for name, array, type_, sizes in (("images", images, "int8", shape), ("logits", logits, dtype, (classes,))):
        if array.dtype != type_ or array.shape[1:] != sizes or len(array) != len(images) or len(array) == 0:
            expected = ", ".join(map(str, sizes))
            raise QuantizationError(
                f"the {name} must be {type_} [n, {expected}], not {array.dtype} {list(array.shape)}"
            )
    return {
        "count": len(images),
        "picture_bytes": prod(shape),
        "classes": classes,
        "logit": dtype,
        "pictures": c_array(f"{storage}const int8_t golden_pictures[]", images.transpose(0, 2, 3, 1)),
        "logits": c_array(f"{storage}const {dtype}_t golden_logits[]", logits),
    }
