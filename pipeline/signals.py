"""Signals: those for which training saves and ends, and one for processes whose parent has ended."""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LAUNCHER = "STAGE_LAUNCHER"  # environment variable of pipeline.launch: its process, the parent of those it starts


def stopping() -> list[signal.Signals]:
    """The signals after which training saves and ends; one that is ignored, as SIGHUP under nohup, stays so.

    Terminals send SIGINT and SIGHUP; schedulers, before the time is over, SIGTERM, SIGUSR1 or SIGUSR2 as the user
    chooses, and the system SIGXCPU.
    """
    named = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU
    return [number for number in named if signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect the signals of `stopping` in a list; a second SIGINT has its usual effect.

    A second SIGTERM does not: a scheduler may send one to all processes, and the launcher passes on its own as well.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        if number == signal.SIGINT:
            signal.signal(number, before[signal.SIGINT])

    before = {number: signal.signal(number, note) for number in stopping()}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """Let the system end this process when its parent ends, so that none writes beside a second start of a stage.

    One of several processes is killed. A stage that DVC runs gets SIGTERM, for which training saves. A stage that was
    called by hand goes on without its shell.
    """
    if "RANK" in os.environ:
        number = signal.SIGKILL
    elif "DVC_STAGE" in os.environ:
        number = signal.SIGTERM
    else:
        return
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):  # of Linux
        set_death_signal = 1
        prctl(set_death_signal, number)
    if os.environ.get(LAUNCHER, str(os.getppid())) != str(os.getppid()):  # it ended before the call above
        os.kill(os.getpid(), signal.SIGKILL)
