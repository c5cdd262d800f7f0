"""The bound of the stack against what gcc says of the same file."""

import re
import shutil
import subprocess
from functools import cache

import pytest
from programs import PROGRAMS, build, conv

from fixedpoint.c.source import c_source, memory_bytes
from fixedpoint.c.stack import FRAME, stack_bytes
from fixedpoint.program import INPUT, Add, Program, Rearrange

COMPILERS = {"x86-64": ["gcc"], "Arm": ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb"]}


def many_sums() -> Program:
    """Sums and rearrangements in number: what each of them kept on the stack would be seen."""
    ops, names = [conv("a", INPUT, (4, 8, 8)), conv("b", INPUT, (4, 8, 8))], ["a", "b"]
    for i in range(30):
        ops += [
            Add(f"sum{i}", (names[-1], names[-2], names[-1]), (4, 8, 8)),
            Rearrange(f"swapped{i}", (f"sum{i}",), (4, 8, 8), (2, 2, 8, 8), (1, 0, 2, 3)),
        ]
        names += [f"sum{i}", f"swapped{i}"]
    return build((3, 8, 8), *ops, exponents=dict.fromkeys(names, 4))


def of_gcc(source: dict[str, str], compiler: list[str], option: str, folder) -> int:
    """Bytes of stack of the deepest chain of calls from network_run, by gcc's graph of calls."""
    for name, text in source.items():
        (folder / name).write_text(text)
    command = [*compiler, "-std=c99", option, "-fcallgraph-info=su", "-c", "network.c"]
    subprocess.run(command, cwd=folder, check=True)
    text = (folder / "network.ci").read_text()
    frames = {title: int(size) for title, size in re.findall(r'title: "(\S+)" label: "[^"]*\\n(\d+) bytes', text)}
    calls = re.findall(r'sourcename: "(\S+)" targetname: "(\S+)"', text)

    @cache
    def deepest(function: str) -> int:
        called = (deepest(target) for source, target in calls if source == function)
        return frames.get(function, 0) + max(called, default=0)

    return deepest("network_run")


@pytest.mark.parametrize("option", ["-O0", "-O2", "-O3"])
@pytest.mark.parametrize("machine", COMPILERS)
@pytest.mark.parametrize("name", ["network_se", "many sums"])
def test_the_bound_holds_and_is_not_far_off(name, machine, option, tmp_path):
    compiler = COMPILERS[machine]
    if not shutil.which(compiler[0]):
        pytest.skip(f"{compiler[0]} is not installed")
    program = many_sums() if name == "many sums" else PROGRAMS[name]
    sources = c_source(program, {})
    found, bound = of_gcc(sources, compiler, option, tmp_path), memory_bytes(program)["stack"]
    assert bound / 5 < found <= bound
    assert f"#define NETWORK_STACK_BYTES {bound} " in sources["network.h"]


def test_a_chain_by_hand():
    text = """enum { BLOCK = 64 };

static int32_t leaf(int32_t a)
{
    return a;
}

static void middle(int32_t a)
{
    int32_t sums[BLOCK];
    int16_t few[3];
    sums[0] = leaf(a) + few[0];
}

static void shallow(void)
{
    int8_t bytes[100];
    bytes[0] = 0;
}

void network_run(const int8_t *input, int32_t *logits)
{
    middle(1);
    shallow();
}
"""
    assert stack_bytes(text) == 3 * FRAME + 64 * 4 + 3 * 2
