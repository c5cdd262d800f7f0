import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.signals import LAUNCHER, noted_signals

NAMES = ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"]


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_is_noted_and_has_its_own_effect_afterwards(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with noted_signals() as noted:
        os.kill(os.getpid(), number)
        assert noted == [number]
        if name != "SIGINT":
            os.kill(os.getpid(), number)
            assert noted == [number, number]
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_ends():
    with noted_signals(), pytest.raises(KeyboardInterrupt):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_ignored_stays_so(name):
    """SIGHUP under nohup, SIGINT of a script's command in the background."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with noted_signals() as noted:
            os.kill(os.getpid(), number)
        assert (noted, signal.getsignal(number)) == ([], signal.SIG_IGN)
    finally:
        signal.signal(number, before)


CHILD = (
    "import time; from pipeline.signals import end_with_parent; end_with_parent(); print(flush=True); time.sleep(60)"
)
PARENT = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def orphan(**variables: str) -> psutil.Process:
    """A process that has called end_with_parent, and whose parent was killed."""
    place = {"cwd": Path(__file__).parents[2], "env": os.environ | variables}
    command = [sys.executable, "-c", PARENT, sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **place) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.stdout.close()
    return child


@pytest.mark.parametrize("variables", [{"RANK": "0"}, {"DVC_STAGE": "train_float"}])
def test_a_process_of_several_and_a_stage_of_dvc_end_with_their_parent(variables):
    _, alive = psutil.wait_procs([orphan(**variables)], timeout=10)
    assert not alive


def test_a_stage_that_was_called_by_hand_outlives_its_shell():
    child = orphan()
    time.sleep(0.2)
    assert child.is_running()
    child.kill()


def test_the_launcher_was_killed_before_its_process_could_ask():
    """The process has another parent already, so no signal would come."""
    variables = {"RANK": "0", LAUNCHER: "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=Path(__file__).parents[2], env=os.environ | variables, timeout=30
    )
    assert done.returncode == -signal.SIGKILL
