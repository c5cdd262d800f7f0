"""The self-check of the C form, compiled and run."""

import re
from pathlib import Path

import numpy as np
import pytest
from programs import PROGRAMS
from selfchecks import STRICT, call, golden, write

from fixedpoint.c.selfcheck import c_selfcheck, golden_count
from fixedpoint.c.source import c_source


@pytest.mark.parametrize(
    ("shape", "count"), [((3, 32, 32), 21), ((3, 128, 128), 1), ((3, 224, 224), 1), ((1, 8, 8), 40)]
)
def test_images_of_64_kib_at_most_but_one(shape, count):
    assert golden_count(np.zeros((40, *shape), np.int8)) == count


def run_c(folder: Path, sources: dict[str, str]) -> tuple[int, str]:
    write(folder, sources)
    command = ["cc", "-std=c99", *STRICT, "-O1", "network.c", "selfcheck.c", "-o", "selfcheck"]
    assert call(folder, *command) == (0, "")
    return call(folder, "./selfcheck")


@pytest.fixture(params=["network", "linear"])
def c_files(request):
    program = PROGRAMS[request.param]
    images, logits = golden(program)
    return program, images, logits, c_source(program, {})


def test_the_c_form_passes(c_files, tmp_path):
    program, images, logits, sources = c_files
    sources["selfcheck.c"] = c_selfcheck(program, images, logits)
    assert run_c(tmp_path, sources) == (0, f"PASS: {len(images)} pictures, {logits.size} logits\n")
    assert not re.search(r"\b(float|double)\b", sources["selfcheck.c"])


def test_the_c_form_names_the_first_logit_that_differs(c_files, tmp_path):
    program, images, logits, sources = c_files
    wrong = logits.copy()
    wrong[3, 2] += 1
    wrong[4, 0] -= 1
    sources["selfcheck.c"] = c_selfcheck(program, images, wrong)
    message = f"FAIL: picture 3, class 2: got {logits[3, 2]}, expected {wrong[3, 2]}\n"
    assert run_c(tmp_path, sources) == (1, message)


def test_the_c_form_fails_if_one_weight_is_another(c_files, tmp_path):
    program, images, logits, _ = c_files
    weight = program.constants["logits.weight"].clone()
    weight.view(-1)[0] ^= 1
    changed = program.with_constants(**{"logits.weight": weight})
    theirs = golden(changed)[1]
    image, label = (int(i) for i in np.argwhere(theirs != logits)[0])
    sources = c_source(changed, {}) | {"selfcheck.c": c_selfcheck(program, images, logits)}
    got, expected = theirs[image, label], logits[image, label]
    message = f"FAIL: picture {image}, class {label}: got {got}, expected {expected}\n"
    assert run_c(tmp_path, sources) == (1, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, y: (x.astype(np.int16), y),
            r"the images must be int8 \[n, 3, 32, 32\], not int16 \[\d+, 3, ",
        ),
        (lambda x, y: (x.transpose(0, 2, 3, 1), y), r"the images must be int8 \[n, 3, 32, 32\], not int8"),
        (lambda x, y: (x, y.astype(np.int8)), r"the logits must be int32 \[n, 5\], not int8"),
        (lambda x, y: (x, y[:, :4]), r"the logits must be int32 \[n, 5\], not int32 \[\d+, 4\]"),
        (lambda x, y: (x, y[:2]), r"the logits must be int32 \[n, 5\], not int32 \[2, 5\]"),
        (lambda x, y: (x[:0], y[:0]), r"the images must be int8 \[n, 3, 32, 32\], not int8 \[0, "),
    ],
)
def test_other_arrays_are_refused(change, message):
    program = PROGRAMS["network"]
    with pytest.raises(ValueError, match=message):
        c_selfcheck(program, *change(*golden(program)))
