"""Model files that say anything at all: a program is refused in one line, or computes what the oracle computes."""

import hashlib
import random
import signal
from collections import Counter
from contextlib import contextmanager

import numpy as np
import oracle
import portable_programs
import programs
import pytest
import torch
from mutated_programs import mutated
from onnx_files import WRITERS
from programs import hard_inputs, in_real_numbers, numpy_constants

from fixedpoint.analysis.golden import check_golden, golden_tensors, write_golden
from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source
from fixedpoint.errors import QuantizationError
from fixedpoint.litert.writer import litert_model
from fixedpoint.onnx import seal
from fixedpoint.onnx.runtime import OnnxModel
from fixedpoint.program import Program
from fixedpoint.program.portable import prove
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel

pytestmark = pytest.mark.faults

SEED, TRIES, SECONDS = 17, 3000, 20
FILES = 400  # changed files of each form
COMPILED = 30  # of the programs that are accepted, how many also run in C, with sanitizers
EXACT8 = ["network", "network_se", "conv_groups", "conv_dilation", "add_three", "mul_gate_left", "pad_values_conv"]
EXACT8 += ["linear", "lookup_clamped", "avg_pool_3x3", "max_pool_padding", "conv_depthwise_5x5", "concat_clamp"]
PORTABLE = ["network", "network_vectors", "conv_groups_pad", "pad_values", "mean_3x3", "conv_relu6", "concat_many"]
CASES = [programs.PROGRAMS[name] for name in EXACT8] + [portable_programs.PROGRAMS[name] for name in PORTABLE]
SANITIZED = ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@contextmanager
def limited(seconds: int):
    """TimeoutError if the block takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refusal(function, *arguments) -> str | None:
    """The line by which a function refuses; any other exception is an error of the test."""
    try:
        function(*arguments)
    except QuantizationError as error:
        line = str(error)
        assert "\n" not in line, line
        assert len(line) < 2000, line
        return line
    return None


@torch.no_grad()
def use(program: Program, counts: Counter, folder) -> None:
    """Compute and export it in every form."""
    x = hard_inputs(program, 1)
    if not program.is_integer:
        FakeQuantModel(program).logits(torch.from_numpy(x / np.float32(128)))
        counts["float" if refusal(convert, program) is None else "float, not converted"] += 1
        return
    found = golden_tensors(program, torch.from_numpy(x))
    for writer in WRITERS.values():
        refusal(writer.export, program, {})
    if program.is_portable:
        refusal(litert_model, program, {})
    if refusal(prove, program) is not None:
        counts["integer, not proved"] += 1
        return
    counts["integer"] += 1
    expected = oracle.run(program.to_json(), numpy_constants(program), x)
    for name, value in found.items():
        assert np.array_equal(value, expected.get(name, x)), name
    written = folder / "deep" / "golden"
    write_golden(written, program, found, [0], [0])
    assert check_golden(written, found).names == [*found]
    assert [path.name for path in folder.iterdir()] == ["deep"] and len([*(folder / "deep").iterdir()]) == 1
    sources = c_source(program, {})
    if counts["compiled"] < COMPILED and counts["integer"] % 5 == 0:
        counts["compiled"] += 1
        tensors = CModel(sources, trace=True, options=SANITIZED).tensors(x)
        for name, value in tensors.items():
            assert np.array_equal(value, expected[name].reshape(len(x), -1)), name


def test_a_mutated_program_is_refused_or_right(tmp_path):
    rng, counts, faults = random.Random(SEED), Counter(), []
    for i in range(TRIES):
        program = CASES[i % len(CASES)]
        value, constants = mutated(program if i % 3 else in_real_numbers(program), rng)
        try:
            with limited(SECONDS):
                if refusal(Program.from_json, value, constants) is not None:
                    counts["refused"] += 1
                    continue
                use(Program.from_json(value, constants), counts, tmp_path)
        except Exception as error:
            faults.append(f"{i}: {type(error).__name__}: {str(error)[:300]}")
    print(dict(counts))
    assert faults == []
    assert counts.total() == TRIES + counts["compiled"]
    assert counts["compiled"] == COMPILED
    assert min(counts[kind] for kind in ("refused", "integer", "float", "integer, not proved")) > 20


def resealed(content: bytes, rng: random.Random) -> bytes | None:
    """A file with some bytes changed, and the digest that it then has; None if the digest's place has changed."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(len(changed))
        changed[place] = rng.choice([changed[place] ^ (1 << rng.randrange(8)), rng.randrange(256), 0, 255])
    found = [*seal.DIGEST.finditer(changed)]
    if not found:
        return None
    start, end = found[-1].span(1)
    changed[start:end] = seal.BLANK.encode()
    changed[start:end] = hashlib.sha256(changed).hexdigest().encode()
    return bytes(changed)


@pytest.mark.parametrize("form", WRITERS)
def test_an_onnx_file_that_somebody_changed_and_sealed_is_refused_or_runs(tmp_path, form, capfd):
    rng, counts, faults = random.Random(SEED), Counter(), []
    program = portable_programs.PROGRAMS["network_vectors"]
    content = WRITERS[form].export(program, {}).SerializeToString(deterministic=True)
    x, path = hard_inputs(program, 1), tmp_path / "x.onnx"
    for i in range(FILES):
        changed = resealed(content, rng)
        if changed is None:
            continue
        path.write_bytes(changed)
        try:
            with limited(SECONDS):
                line = refusal(lambda: OnnxModel(path)(x))
        except Exception as error:
            faults.append(f"{i}: {type(error).__name__}: {str(error)[:300]}")
        else:
            counts["ran" if line is None else "refused"] += 1
    assert faults == []
    assert capfd.readouterr() == ("", "")
    assert counts["ran"] > FILES / 10 and counts["refused"] > FILES / 10
