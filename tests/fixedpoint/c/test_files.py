"""Names of the C form: two networks in one program, and names that are refused."""

import re
import subprocess
from pathlib import Path

import numpy as np
import oracle
import pytest
from programs import PROGRAMS, hard_inputs, numpy_constants

from fixedpoint.c.selfcheck import c_selfcheck
from fixedpoint.c.source import c_source
from fixedpoint.program import Program

STRICT = ["cc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"]
# Two networks in one program: each reads its pictures, [height][width][channels], and writes its logits, by turns.
USER = """
#include <stdio.h>
#include "first.h"
#include "second_2.h"

int main(void)
{
    static int8_t a[FIRST_INPUT_BYTES], b[SECOND_2_INPUT_BYTES];
    static int32_t x[FIRST_CLASSES], y[SECOND_2_CLASSES];
    while (fread(a, 1, sizeof a, stdin) == sizeof a && fread(b, 1, sizeof b, stdin) == sizeof b) {
        first_run(a, x);
        second_2_run(b, y);
        fwrite(x, sizeof x, 1, stdout);
        fwrite(y, sizeof y, 1, stdout);
    }
    return first_logit_exponent[0] == second_2_logit_exponent[0] && FIRST_STACK_BYTES == SECOND_2_STACK_BYTES;
}
"""


def write(folder: Path, sources: dict[str, str]) -> None:
    for name, text in sources.items():
        (folder / name).write_text(text)


def logits(program: Program, x: np.ndarray) -> np.ndarray:
    tensors = oracle.run(program.to_json(), numpy_constants(program), x)
    return tensors[program.output].reshape(len(x), -1)


def test_two_networks_in_one_program_compute_each_its_own(tmp_path):
    programs = {"first": PROGRAMS["network_se"], "second_2": PROGRAMS["linear"]}
    images = {name: hard_inputs(program, 2) for name, program in programs.items()}
    for name, program in programs.items():
        write(tmp_path, c_source(program, {"note": "network_run"}, name))
    write(tmp_path, {"user.c": USER})
    subprocess.run([*STRICT, "first.c", "second_2.c", "user.c", "-o", "user"], cwd=tmp_path, check=True)
    pairs = zip(*(x.transpose(0, 2, 3, 1) for x in images.values()), strict=True)
    done = subprocess.run([tmp_path / "user"], input=b"".join(x.tobytes() for pair in pairs for x in pair), stdout=-1)
    expected = np.hstack([logits(program, images[name]) for name, program in programs.items()])
    assert done.returncode == 0 and np.array_equal(
        np.frombuffer(done.stdout, "<i4").reshape(len(expected), -1), expected
    )


def test_main_and_the_self_check_go_by_the_name(tmp_path):
    program = PROGRAMS["linear"]
    sources = c_source(program, {}, "my_net")
    assert [*sources] == ["my_net.c", "my_net.h", "my_net_main.c"]
    x = hard_inputs(program, 1)
    wanted = logits(program, x)
    sources["my_net_selfcheck.c"] = c_selfcheck(program, x, wanted.astype(np.int32), "my_net")
    write(tmp_path, sources)
    for command in re.findall(r"^ \* +(cc .*?)(?: &&.*)?$", "\n".join(sources.values()), re.MULTILINE):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    for program_of in ("network", "trace"):
        done = subprocess.run([tmp_path / program_of], input=x.tobytes(), stdout=subprocess.PIPE, check=True)
        assert np.array_equal(np.frombuffer(done.stdout, "<i4").reshape(len(x), -1), wanted)
    assert subprocess.run([tmp_path / "selfcheck"], capture_output=True).stdout.startswith(b"PASS")


def test_all_that_is_seen_from_elsewhere_has_the_name(tmp_path):
    write(tmp_path, c_source(PROGRAMS["network_se"], {}, "first"))
    subprocess.run([*STRICT, "-DFIRST_TRACE", "-c", "first.c"], cwd=tmp_path, check=True)
    listed = subprocess.run(["nm", "-g", "first.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    symbols = {line.split()[-1] for line in listed.splitlines() if not line.split()[-1].startswith("_")}
    assert symbols - {"memcpy", "memset"} == {"first_run", "first_logit_exponent", "first_trace"}
    macros = re.findall(r"#\w+ (\w+)", (tmp_path / "first.h").read_text())
    assert {name for name in macros if not name.startswith("FIRST_")} == {"__cplusplus"}


def test_names_of_operations_and_metadata_stay_as_they_are():
    sources = c_source(PROGRAMS["linear"], {"network_run": "NETWORK_H network.c"}, "other")
    assert ' * network_run: "NETWORK_H network.c"\n' in sources["other.h"]


@pytest.mark.parametrize("name", ["", "Net", "2nd", "a-b", "a b", "../a", "a" * 41, "ü", "string", "a;", "_a"])
def test_a_name_that_c_cannot_have_is_refused(name):
    with pytest.raises(ValueError, match="the name of the C form must be"):
        c_source(PROGRAMS["linear"], {}, name)
    with pytest.raises(ValueError, match="the name of the C form must be"):
        c_selfcheck(PROGRAMS["linear"], hard_inputs(PROGRAMS["linear"], 1), np.zeros((6, 5), np.int32), name)
