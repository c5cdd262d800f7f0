import random
from dataclasses import replace
from math import prod

import numpy as np
import oracle
import pytest
from moves import rearrange, select
from programs import PROGRAMS, build, conv, hard_inputs, numpy_constants

from fixedpoint.c.files import FOLDER
from fixedpoint.c.memory_plan import LANES, check, is_view, patch_bytes, plan
from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source
from fixedpoint.program import INPUT, Add, Clamp, Concat, Flatten, MaxPool, Mul, Program


def random_program(seed: int) -> Program:
    """Maps of several sizes, each read soon, late, often or never."""
    rng = random.Random(seed)
    known, ops = {INPUT: (3, 8, 8)}, []
    for i in range(rng.randint(3, 20)):
        name, source = f"t{i}", rng.choice([*known][-4:])
        shape = channels, height, width = known[source]
        alike = [other for other in known if known[other] == shape]
        pair = source, rng.choice([other for other in known if known[other][1:] == shape[1:]])
        choices = [
            Add(name, (source, *rng.choices(alike, k=2)), shape),
            Mul(name, (rng.choice(alike), source), shape),
            Clamp(name, (source,), shape, clamp=(-0.5, None)),
            Concat(name, pair, (sum(known[other][0] for other in pair), height, width)),
            conv(name, source, (rng.randint(1, 9), height, width)),
            select(name, source, rng.choices(range(channels), k=3), range(height), range(width)),
            rearrange(name, source, (channels, height * width), (1, 0), (channels, height, width)),
            rearrange(name, source, shape, (0, 1, 2), (channels, width, height)),
            conv(name, source, shape, groups=channels),
        ]
        if height > 1:
            choices.append(MaxPool(name, (source,), (channels, height // 2, width // 2), (2, 2), (2, 2), (0, 0)))
        ops.append(rng.choice(choices))
        known[name] = ops[-1].shape
    ops.insert(1, Flatten("unread", (ops[0].name,), (prod(ops[0].shape),)))
    return build((3, 8, 8), *ops, conv_head=rng.random() < 0.5)


RANDOM = {f"random {seed}": random_program(seed) for seed in range(60)}


def value_of(program: Program, name: str) -> str:
    """The tensor that `name` is a view of, or itself."""
    op = next((op for op in program.ops if op.name == name), None)
    return value_of(program, op.inputs[0]) if op and is_view(program, op) else name


@pytest.mark.parametrize("name", [*PROGRAMS, *RANDOM])
def test_what_lives_at_the_same_time_does_not_overlap(name):
    program = (PROGRAMS | RANDOM)[name]
    found = plan(program)
    index = {op.name: i for i, op in enumerate(program.ops)}
    # the bytes that a value takes, and from which operation to which; a patch is a value of one operation
    blocks = {n: range(o, o + prod(program.shapes[n])) for n, o in found.offsets.items() if value_of(program, n) == n}
    lives = {n: [index[n], index[n]] for n in blocks}
    for i, op in enumerate(program.ops):
        for tensor in {value_of(program, n) for n in op.inputs} & set(blocks):
            lives[tensor][1] = i
        if op.name in found.patches:
            offset = found.patches[op.name]
            blocks[op.name, "patch"] = range(offset, offset + patch_bytes(program, op))
            lives[op.name, "patch"] = [i, i]
    assert {*found.offsets} | program.raw | {n for n in index if value_of(program, n) == INPUT} == {*index}
    for a, block in blocks.items():
        assert block.start >= 0 and block.stop <= found.peak
        for b, other in blocks.items():
            together = a != b and lives[a][0] <= lives[b][0] <= lives[a][1]
            if together and block.start < other.stop and other.start < block.stop:
                op = program.ops[lives[b][0]]
                assert op.kind in ("clamp", "lookup", "add", "mul") and b == op.name, (a, b)
                assert block == other and lives[a][1] == lives[b][0], (a, b)


@pytest.mark.parametrize("name", ["random 3", "random 4", "random 7"])
def test_a_random_program_computes_what_the_oracle_does(name):
    program = RANDOM[name]
    x = hard_inputs(program, 1)
    expected = oracle.run(program.to_json(), numpy_constants(program), x)
    tensors = CModel(c_source(program, {}), trace=True, options=["-O1"]).tensors(x)
    assert [*tensors] == [op.name for op in program.ops]
    for tensor, value in tensors.items():
        assert np.array_equal(value, expected[tensor].reshape(len(x), -1)), tensor


def test_a_plan_by_hand():
    program = PROGRAMS["add_three"]  # a, b: 3 channels to 4 on 8x8; x and y: sums; flat; logits
    found = plan(program)
    assert found.offsets["x"] == found.offsets["a"], "a is not read again"
    assert found.offsets["y"] in (found.offsets["x"], found.offsets["b"]), "nor are x and b"
    assert found.offsets["flat"] == found.offsets["y"], "a linear layer takes its values in any order"
    assert "logits" not in found.offsets and INPUT not in found.offsets
    assert found.peak == 256 + 256 + 32, "a, b, and 3x3 values of 3 channels, to a multiple of 32, in the patch of b"


def test_values_between_two_transpositions_have_a_place_of_their_own():
    program = PROGRAMS["rearrange_between_sizes"]  # 36 values of the image, in two steps; then a linear layer of them
    found = plan(program)
    assert patch_bytes(program, program.ops[0]) == 36
    assert patch_bytes(program, program.ops[-1]) == 64, "the next multiple of 32"
    assert found.peak == 36 + 64
    one_step = PROGRAMS["rearrange_shuffle_pixels"]
    assert patch_bytes(one_step, one_step.ops[0]) == 0 and one_step.ops[0].name not in plan(one_step).patches


def test_what_moves_nothing_is_a_view():
    program = PROGRAMS["moves_in_a_row"]  # image, a = clamp; b all of a; c shuffles b; ...; g a column; i a row
    found = plan(program)
    assert [op.name for op in program.ops if is_view(program, op)] == ["b", "g", "i", "flat"]
    assert found.offsets["a"] == found.offsets["b"] and found.offsets["f"] == found.offsets["j"]


def test_an_operand_that_is_read_again_is_kept():
    clamps = Clamp("a", (INPUT,), (3, 4, 4)), Clamp("b", ("a",), (3, 4, 4)), Add("c", ("a", "b"), (3, 4, 4))
    found = plan(build((3, 4, 4), *clamps))
    assert found.offsets["a"] != found.offsets["b"]
    assert found.offsets["c"] in (found.offsets["a"], found.offsets["b"])


def test_memory_is_used_again():
    channels = [8, 16, 4, 16, 8, 4]
    names = [INPUT, *"abcdef"]
    ops = [conv(n, x, (c, 8, 8)) for n, x, c in zip(names[1:], names[:-1], channels, strict=True)]
    program = build((3, 8, 8), *ops, conv_head=True)
    # when d, of 16 channels, becomes e, of 8: both and the patch, 3x3 values of 16 channels, to a multiple of 32
    assert plan(program).peak == (16 + 8) * 64 + 160


@pytest.mark.parametrize("name", ["network", "network_se", *[*RANDOM][:20]])
def test_a_plan_that_is_wrong_is_refused(name):
    program = (PROGRAMS | RANDOM)[name]
    found = plan(program)
    check(program, found)
    op = next(op for op in reversed(program.ops) if op.name in found.patches and op.inputs[0] in found.offsets)
    operand = found.offsets[op.inputs[0]]
    wrong = [replace(found, patches=found.patches | {op.name: operand}), replace(found, peak=found.peak - 2)]
    if op.name in found.offsets:
        wrong += [replace(found, offsets=found.offsets | {op.name: place}) for place in (operand, -1)]
    for bad in wrong:
        with pytest.raises(ValueError, match=r"would (read|write)"):
            check(program, bad)


def test_what_is_needed_later_must_not_be_written_over():
    program = PROGRAMS["concat"]  # a, b, and x of a, INPUT and b
    found = plan(program)
    with pytest.raises(ValueError, match="x would read a where something else has been written"):
        check(program, replace(found, offsets=found.offsets | {"b": found.offsets["a"]}))


def test_the_kernels_have_the_same_lanes():
    assert f"enum {{ LANES = {LANES} }};" in (FOLDER / "kernels.c").read_text()
