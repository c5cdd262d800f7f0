"""The options of the subjects, which are printed before what measures is imported."""

import subprocess
import sys

import pytest
from project import REPOSITORY

from benchmarks import data, quantize
from benchmarks.__main__ import SUBJECTS
from benchmarks.options import PARTS, QUANTIZED, options


@pytest.mark.parametrize("subject", SUBJECTS)
def test_help_has_the_docstring_and_each_option(subject, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    with pytest.raises(SystemExit):
        options(subject)
    first = (REPOSITORY / f"benchmarks/{subject}.py").read_text().splitlines()[0].removeprefix('"""')
    printed = capsys.readouterr().out
    assert first in printed and printed.count("\n  --") >= 1


def test_help_imports_neither_pytorch_nor_numpy():
    script = "import runpy, sys; sys.argv = ['benchmarks', 'deploy', '--help']\n"
    script += "try: runpy.run_module('benchmarks', run_name='__main__')\n"
    script += "finally: print(sorted({'torch', 'numpy'} & {*sys.modules}))\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("[]\n"), done.stdout + done.stderr


def test_what_may_be_chosen_is_what_there_is():
    assert (*quantize.NETWORKS,) == QUANTIZED and (*data.PARTS,) == PARTS
