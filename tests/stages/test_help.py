"""What scripts say of themselves: fast, as long as somebody reads it."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = [f"{folder}.{path.stem}" for folder in ("stages", "tools") for path in (REPOSITORY / folder).glob("[!_]*.py")]
HELP = """
import contextlib, io, runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        runpy.run_module(script, run_name="__main__", alter_sys=True)
    assert printed.getvalue().startswith("usage: "), script
print(*sys.modules)
"""


def test_help_comes_before_the_imports_that_take_seconds():
    done = subprocess.run(
        [sys.executable, "-c", HELP, *SCRIPTS], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert {"torch", "onnx", "onnxruntime", "timm"} & {*done.stdout.split()} == set()


@pytest.mark.parametrize("package", ["stages", "tools"])
def test_a_package_lists_its_scripts(package):
    done = subprocess.run([sys.executable, "-m", package], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    listed = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("python -m")]
    assert listed == sorted(script for script in SCRIPTS if script.startswith(package))


@pytest.mark.parametrize("command", ["stages.validate --help", "stages"])
def test_nothing_is_said_when_nobody_reads(command):
    """The reader has gone before the first line."""
    script = f"sleep 0.2; exec {sys.executable} -m {command}"
    process = subprocess.Popen(
        ["sh", "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait()
