"""No module has a call by which data could run as code, or a text as a command of the shell."""

import ast
import re

import pytest
from test_structure import MODULES, PACKAGES, REPOSITORY, name

MODULES_THAT_RUN_DATA = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS = {
    *("eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load", "yaml.unsafe_load_all"),
    *("torch.hub.load", "torch.package.PackageImporter", "shutil.unpack_archive", "tempfile.mktemp"),
}
PROCESSES = {f"subprocess.{function}" for function in ("run", "Popen", "call", "check_call", "check_output")}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}
# Keywords that must not be given otherwise, in any call; and those that a call must have.
SAFE_VALUES = {"shell": {"False"}, "allow_pickle": {"False"}, "trust_remote_code": {"False"}}
REQUIRED = {
    "torch.load": ("weights_only", {"True"}),
    "extract": ("filter", {"'data'"}),
    "extractall": ("filter", {"'data'"}),
    "YAML": ("typ", {"'safe'", "'rt'"}),
}
C_FUNCTIONS = re.compile(r"\b(system|popen|gets|strcpy|strcat|v?sprintf)\s*\(")


def dangers(code: str) -> list[str]:
    """The full names of unsafe calls and imports of a module."""
    nodes = list(ast.walk(ast.parse(code)))
    full: dict[str, str] = {}  # what the module's names stand for
    imported = []
    for node in nodes:
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
            full |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            imported.append(str(node.module))
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def dotted(node: ast.expr) -> str:
        first, dot, rest = ast.unparse(node).partition(".")
        return full.get(first, first) + dot + rest

    loaders = SAFE_LOADERS | {
        node.name
        for node in nodes
        if isinstance(node, ast.ClassDef) and SAFE_LOADERS & {dotted(base) for base in node.bases}
    }

    def unsafe(call: ast.Call) -> bool:
        function, values = dotted(call.func), {each.arg: dotted(each.value) for each in call.keywords}
        required, allowed = REQUIRED.get(function) or REQUIRED.get(function.rpartition(".")[2]) or (None, set())
        return (
            function in CALLS
            or any(values[key] not in safe for key, safe in SAFE_VALUES.items() if key in values)
            or (required is not None and values.get(required) not in allowed)
            or (function == "yaml.load" and values.get("Loader") not in loaders)
            or (function in PROCESSES and re.match("f?['\"]", ast.unparse(call.args[0])) is not None)
        )

    modules = [module for module in imported if module.partition(".")[0] in MODULES_THAT_RUN_DATA]
    return modules + [dotted(node.func) for node in nodes if isinstance(node, ast.Call) and unsafe(node)]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("eval('1')", ["eval"]),
        ("model.eval(), re.compile(x), torch.compile(y)", []),
        ("import os; os.system('ls')", ["os.system"]),
        ("from os import popen as p; p('ls')", ["os.popen"]),
        ("import pickle", ["pickle"]),
        ("def f(): from pickle import loads as decode", ["pickle"]),
        ("import subprocess; subprocess.run(['ls'], shell=True)", ["subprocess.run"]),
        ("import subprocess; subprocess.run(['ls'], shell=flag)", ["subprocess.run"]),
        ("from subprocess import run; run(f'ls {x}')", ["subprocess.run"]),
        ("import subprocess as s; s.run(['ls', x], check=True)", []),
        ("import torch; torch.load(x)", ["torch.load"]),
        ("import torch; torch.load(x, weights_only=False)", ["torch.load"]),
        ("import torch; torch.load(x, weights_only=True)", []),
        ("import numpy as np; np.load(x, allow_pickle=True)", ["numpy.load"]),
        ("import numpy as np; np.load(x, allow_pickle=False)", []),
        ("import yaml; yaml.load(x, Loader=yaml.Loader)", ["yaml.load"]),
        ("import yaml; yaml.load(x, yaml.Loader)", ["yaml.load"]),
        ("import yaml\nclass L(yaml.SafeLoader): pass\nyaml.load(x, Loader=L)", []),
        ("import yaml\nclass L(yaml.Loader): pass\nyaml.load(x, Loader=L)", ["yaml.load"]),
        ("from ruamel.yaml import YAML; YAML(typ='unsafe')", ["ruamel.yaml.YAML"]),
        ("tar.extractall(folder)", ["tar.extractall"]),
        ("from tempfile import mktemp; mktemp()", ["tempfile.mktemp"]),
    ],
)
def test_dangers_are_found(code, found):
    assert dangers(code) == found


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_runs_what_data_say(path):
    assert dangers(path.read_text()) == []


def test_no_c_code_starts_a_shell_or_writes_without_a_length():
    files = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.[ch]")]
    assert files
    assert [path for path in files if C_FUNCTIONS.search(path.read_text())] == []
