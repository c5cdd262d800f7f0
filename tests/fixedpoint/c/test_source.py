import re
import subprocess
from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
from extremes import EXTREMES
from programs import CLASSES, PROGRAMS, build, hard_inputs, numpy_constants

from fixedpoint.c.memory_plan import plan
from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source, flash_bytes
from fixedpoint.program import INPUT, BatchNorm, Clamp, Concat, Flatten, Program

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def check(program: Program, *options: str, sources: dict[str, str] | None = None, count: int = 12) -> list[str]:
    """The tensors in which the C source, or another one for the same program, differs from the oracle."""
    x = hard_inputs(program, count)
    expected = oracle.run(program.to_json(), numpy_constants(program), x)
    tensors = CModel(sources or c_source(program, {}), trace=True, options=[*STRICT, *options]).tensors(x)
    assert [*tensors] == [op.name for op in program.ops]
    assert all(t.dtype == (np.int32 if name in program.raw else np.int8) for name, t in tensors.items())
    return [name for name, t in tensors.items() if not np.array_equal(t, expected[name].reshape(len(x), -1))]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_tensor_is_the_oracles(name):
    assert check(PROGRAMS[name], "-O3") == []


@pytest.mark.parametrize("name", ["network", "network_se"])
def test_without_a_trace_the_logits_are_the_same(name):
    program = PROGRAMS[name]
    x = hard_inputs(program)
    expected = oracle.run(program.to_json(), numpy_constants(program), x)[program.output]
    logits = CModel(c_source(program, {}), options=[*STRICT, "-O3"])(x)
    assert logits.dtype == np.int32 and np.array_equal(logits, expected.reshape(len(x), -1))


@pytest.mark.parametrize(
    "name",
    [
        "network",
        "network_se",
        "conv_5x3_stride",
        "conv_dilation",
        "concat_clamp",
        "concat_rows",
        "pad",
        "pad_between_values",
        "select_cut_and_repeat",
        "select_flip_all",
        "rearrange_shuffle_pixels",
        "rearrange_between_sizes_twice",
        "moves_in_a_row",
    ],
)
def test_nothing_is_undefined_or_out_of_bounds(name):
    assert check(PROGRAMS[name], *SANITIZED) == []


@pytest.mark.parametrize("options", [SANITIZED, ["-O3"]], ids=["sanitized", "optimized"])
@pytest.mark.parametrize("name", EXTREMES)
def test_shifts_in_both_directions_ties_and_saturation(name, options):
    assert check(EXTREMES[name], *options, count=2) == []


def test_a_flatten_that_others_than_linear_layers_read():
    maps = (4, 5, 3)
    flatten, clamp = Flatten("f", (INPUT,), (60,)), Clamp("c", ("f",), (60,), clamp=(-0.5, 0.25))
    both = Concat("both", ("f", "c"), (120,))
    assert check(build(maps, flatten, clamp, both), *SANITIZED) == []


ROUNDED = {
    "conv": "x",
    "conv_depthwise": "x",
    "linear": "x",
    "add": "x",
    "mul": "x",
    "concat": "x",
    "avg_pool_2x2": "pool",
    "avg_pool_11x11": "pool",
}
# Each replaces one line of kernels.c, for powers of two and for the other divisors.
ROUNDINGS = {
    "half away from zero": (("- 1 + odd)", ")"), ("below % 2)", "1)")),
    "half to zero": (("- 1 + odd)", "- 1)"), ("below % 2)", "0)")),
    "half to odd": (("- 1 + odd)", "- odd)"), ("below % 2)", "below % 2 == 0)")),
}


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", ROUNDED)
def test_another_rounding_is_seen(name, rounding):
    sources = c_source(PROGRAMS[name], {})
    for old, new in ROUNDINGS[rounding]:
        sources["network.c"] = sources["network.c"].replace(old, new)
    assert ROUNDED[name] in check(PROGRAMS[name], "-Wno-unused", sources=sources)


def macro(sources: dict[str, str], name: str) -> int:
    return int(re.search(rf"#define NETWORK_{name} (\d+)", sources["network.h"])[1])


def test_the_header_by_hand():
    program = PROGRAMS["conv"]  # 3x8x8 to 6x8x8 by 3x3, then a linear layer
    sources = c_source(program, {"network": "x"})
    assert [macro(sources, f"INPUT_{size}") for size in ("CHANNELS", "HEIGHT", "WIDTH", "BYTES")] == [3, 8, 8, 192]
    assert macro(sources, "CLASSES") == CLASSES == 5
    # the map, and the operands of the linear layer once more
    assert macro(sources, "ACTIVATION_BYTES") == plan(program).peak == 6 * 8 * 8 * (1 + 1)
    # 27 weights of a channel get zeros to 32, 384 are a multiple
    weights, biases, shifts, exponents = 6 * 32 + 5 * 6 * 8 * 8, 4 * (6 + 5), 4 * 6, 5
    assert macro(sources, "CONSTANT_BYTES") == flash_bytes(program) == weights + biases + shifts + exponents
    listed = re.search(r"network_logit_exponent\[\] = {\s([-\d,]+)\s}", sources["network.c"])[1]
    assert [int(value) for value in listed.split(",")] == program.logit_exponent.tolist()


@pytest.mark.parametrize("name", ["network_se", "pad_values", "linear"])
def test_flash_is_the_bytes_of_all_arrays(name):
    text = c_source(PROGRAMS[name], {})["network.c"]
    arrays = re.findall(r"^(?:static )?const int(\d+)_t \w+\[\] = {\n([-\d,\n]+)\n};$", text, re.MULTILINE)
    assert len(arrays) == text.count("[] = {")
    assert flash_bytes(PROGRAMS[name]) == sum(int(bits) // 8 * len(values.split(",")) for bits, values in arrays)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_source_is_integer_and_needs_no_library(name):
    text = c_source(PROGRAMS[name], {})["network.c"]
    assert re.findall(r"#include .*", text) == ["#include <string.h>", '#include "network.h"']
    assert re.findall(r"\b(float|double|long|u?int64_t|malloc|free|math)\b", text) == []


def test_equal_programs_give_equal_bytes():
    program, metadata = PROGRAMS["network_se"], {"class_names": ["a", "b"]}
    again = Program.from_json(program.to_json(), {k: v.clone() for k, v in reversed(program.constants.items())})
    assert c_source(program, metadata) == c_source(again, metadata)


def test_names_and_metadata_of_any_characters():
    name = '../x "a" *é ??! \\ %d*\\\n/ int y; /*'
    program = build((3, 4, 4), Clamp(name, (INPUT,), (3, 4, 4)))
    metadata = {
        "class_names": ["*/ int x; /*", "ü\n" * 99, "*\\"],
        "note": "??/",
        "*\\\n/ int x; /*": "",
        "*": "\\\n/ int y;",
    }
    sources = c_source(program, metadata)
    assert check(program, sources=sources) == []


def test_the_header_compiles_by_itself(tmp_path):
    (tmp_path / "network.h").write_text(c_source(PROGRAMS["conv"], {})["network.h"])
    (tmp_path / "user.c").write_text('#include "network.h"\n#include "network.h"\nint unused;\n')
    command = ["cc", "-std=c99", *STRICT, "-DNETWORK_TRACE", "-fsyntax-only", "user.c"]
    assert subprocess.run(command, cwd=tmp_path).returncode == 0


def test_what_is_no_integer_program_is_refused():
    program = PROGRAMS["conv"]
    norm = BatchNorm("norm", (INPUT,), (3, 8, 8))
    with pytest.raises(ValueError, match="norm is a batch_norm, which has no C form"):
        c_source(replace(program, ops=(norm, *program.ops)), {})
    with pytest.raises(ValueError, match="x: the accumulator of channel 2 can reach"):
        c_source(program.with_constants(**{"x.bias": torch.tensor([0, 0, 2**24, 0, 0, 0], dtype=torch.int32)}), {})
    exponent = torch.full((CLASSES,), 125, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"the exponents of the logits.* do not fit in 8 bits"):
        c_source(program.with_constants(**{"logits.weight_exponent": exponent}), {})
