"""Too little memory: a stage succeeds or says so in one line; it neither hangs nor leaves a half-written file."""

import random
import re
import signal

import pytest
from attacks import copy_of, start
from test_disk import check_whole, contents, few_forms, outs, remove

pytestmark = pytest.mark.faults

MB = 2**20
EXTRA = (0, 256)  # MB of address space beyond those of the imports, from which limits are drawn
LIMITS = 3  # for each stage
# Libraries in C that do not look whether they got memory: docs/faults.md, "What cannot be promised".
IN_C = (-signal.SIGABRT, -signal.SIGSEGV)
LOST_IN_C = "SystemError: error return without exception set|RuntimeError: could not (create|execute) a primitive"


def test_a_limit_of_the_address_space(finished, server, tmp_path):
    chance, failed, tried, lost = random.Random(2), 0, 0, 0
    project = copy_of(finished, tmp_path / "project")
    for command in few_forms(project):
        written = outs(project, command)
        whole = contents(finished, written)
        for extra in [0, *(chance.randrange(*EXTRA) for _ in range(LIMITS - 1))]:
            remove(project, [*written, "runs"])
            ended = server.run(command, project, extra_memory=extra * MB)
            tried += 1
            if ended.code != 0:
                failed += 1
                check_whole(project, command, whole)
                if ended.code in IN_C or re.search(LOST_IN_C, ended.errors):
                    lost += 1
                else:
                    assert ended.line, f"{command}, {extra} MB"
                assert server.run(command, project).code == 0
            assert contents(project, written) == whole, f"{command}, {extra} MB"
    print(f"{tried} limits, {failed} of them too low, {lost} of these without a line")
    assert tried > 45
    assert failed > 15
    assert lost <= failed // 5


def test_a_limit_of_the_address_space_that_the_imports_exceed(finished):
    """They map some GB of PyTorch's libraries."""
    ended = start("stages.convert_int", finished, prefix=("prlimit", f"--as={500 * MB}"))
    assert "out of memory" in ended.line
