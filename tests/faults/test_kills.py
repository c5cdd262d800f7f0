"""Processes are killed, stopped and signalled at seeded moments; in the end there are the bytes that always come."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from attacks import Ended, StageServer, copy_of
from dvc.repo import Repo
from project import change, environment, files, shell

pytestmark = pytest.mark.faults
SEED = 17
KILLS = {"train_float": 20, "train_qat": 20}  # of each stage; of all others:
KILLS_OF_OTHERS = 8
IN_A_ROW = 8  # at most, before a start that nothing disturbs
RESULTS = ("artifacts", "metrics", "plots")
ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]


def results(folder: Path) -> dict[str, bytes]:
    return {f"{name}/{path}": content for name in RESULTS for path, content in files(folder / name).items()}


def outputs(folder: Path) -> dict[str, list[Path]]:
    """The outputs of each stage, by its command such as "validate --step int"."""
    with Repo(str(folder)) as repo:
        stages = [stage for stage in repo.index.stages if stage.cmd]
        return {
            stage.cmd.removeprefix("python -m stages."): [folder / out.def_path for out in stage.outs]
            for stage in stages
        }


def remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


class Victim:
    """A copy of the finished project whose stages are run again; in the end it must look as before."""

    def __init__(self, finished: Path, folder: Path, server: StageServer):
        self.folder, self.server = copy_of(finished, folder), server
        self.expected, self.outputs = results(folder), outputs(folder)
        self.random = random.Random(SEED)
        self.begin()

    def begin(self, *outs: Path) -> None:
        """As DVC does before it starts a stage, and without the checkpoints of training."""
        remove(self.folder / "runs", *outs)

    def run(self, command: str, *signals: tuple[float, int]) -> Ended:
        ended = self.server.run(command, self.folder, signals=signals)
        assert ended.code is not None, f"{command} hung: {ended.errors}"
        assert "Traceback" not in ended.errors, ended.errors
        return ended

    def succeeds(self, command: str) -> float:
        """Run it without disturbance, and return the seconds."""
        begun = time.monotonic()
        ended = self.run(command)
        assert ended.code == 0, ended.errors
        assert self.differing() == []
        assert not [*self.folder.glob("runs/**/*.partial"), *self.folder.glob("runs/.*.lock")]
        return time.monotonic() - begun

    def differing(self) -> list[str]:
        found = results(self.folder)
        return sorted(name for name in found.keys() | self.expected if found.get(name) != self.expected.get(name))

    def torn(self) -> list[str]:
        """The results that are there under their names, and are not whole; curves in plots/ grow line by line."""
        shown = {name: content for name, content in results(self.folder).items() if "/." not in name}
        return [name for name, content in shown.items() if name[:5] != "plots" and content != self.expected.get(name)]


@pytest.fixture
def victim(finished: Path, tmp_path: Path, server: StageServer) -> Victim:
    return Victim(finished, tmp_path / "victim", server)


def test_a_stage_that_was_killed_ends_in_the_same_bytes_when_it_is_started_again(victim: Victim):
    killed = dict.fromkeys(victim.outputs, 0)
    for command, outs in victim.outputs.items():
        victim.begin(*outs)
        seconds, wanted = victim.succeeds(command), KILLS.get(command, KILLS_OF_OTHERS)
        for attempt in range(4 * wanted):
            if killed[command] == wanted:
                break
            if attempt % IN_A_ROW == 0:
                victim.succeeds(command)
                victim.begin(*(outs if victim.random.random() < 0.7 else ()))
                within = seconds
            ended = victim.run(command, (victim.random.uniform(0, within), signal.SIGKILL))
            assert ended.code in (0, -signal.SIGKILL), ended.errors
            assert victim.torn() == [], command
            if ended.code:
                killed[command] += 1
            else:
                within *= 0.7  # it takes less time than the first did
        victim.succeeds(command)
    print(f"{sum(killed.values())} kills: {killed}")
    assert min(killed.values()) >= KILLS_OF_OTHERS / 2 and sum(killed.values()) >= 200


@pytest.mark.parametrize("command", KILLS)
def test_training_that_was_asked_to_end_has_saved(victim: Victim, command: str):
    """Before training begins, a signal has its usual effect; afterwards, training goes on where it was."""
    victim.begin(*victim.outputs[command])
    seconds, saved = victim.succeeds(command), 0
    for number in ENDING:
        victim.begin(*victim.outputs[command])
        for _ in range(3):
            ended = victim.run(command, (victim.random.uniform(0, seconds), number))
            if ended.errors.startswith("stopped; the checkpoint is in "):
                assert ended.code == 128 + number
                saved += 1
            else:
                assert ended.code in (0, -number, 128 + number), ended.errors
                assert ended.errors in ("", "stopped before it trained\n")
        victim.succeeds(command)
    print(f"{saved} of {3 * len(ENDING)} signals have made {command} save")
    assert saved >= len(ENDING) / 2


def test_a_stage_that_was_stopped_for_a_while(victim: Victim):
    for command, outs in victim.outputs.items():
        victim.begin(*outs)
        moment = victim.random.uniform(0, 0.3)
        ended = victim.run(command, (moment, signal.SIGSTOP), (moment + 0.2, signal.SIGCONT))
        assert ended.code == 0, ended.errors
    assert victim.differing() == []


def start(folder: Path, command: str) -> subprocess.Popen:
    nowhere = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    return subprocess.Popen(command.split(), cwd=folder, env=environment(folder), **nowhere)


def everyone(process: subprocess.Popen) -> Iterator[psutil.Process]:
    """It and all that it has started."""
    try:
        yield psutil.Process(process.pid)
        yield from psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        pass


def kill_after(seconds: float, process: subprocess.Popen, draw: random.Random | None = None) -> list[psutil.Process]:
    """Kill it or, by `draw`, any of the processes that it has started; returns all of them, none if it has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    family = [*everyone(process)] if process.poll() is None else []
    if family:
        (draw.choice(family) if draw else family[0]).kill()
    process.wait()
    return family


def test_one_of_two_processes_and_the_launcher(victim: Victim):
    """Also within the seconds in which they start."""
    folder, train = victim.folder, f"{sys.executable} -m stages.train_float"
    change(folder, train__processes=2)
    begun = time.monotonic()
    shell(folder, train)
    seconds, victim.expected = time.monotonic() - begun, results(folder)
    kills = 0
    for draw in (None, None, victim.random):
        victim.begin()
        family = kill_after(victim.random.uniform(0, seconds), start(folder, train), draw)
        kills += len(family) > 0
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == [], f"they have outlived what had started them: {[each.cmdline() for each in alive]}"
        shell(folder, train)
        assert victim.differing() == []
    print(f"{kills} kills of one of two processes, or of their launcher")
    assert kills >= 2


def test_dvc_itself(victim: Victim):
    """It is killed while it runs any stage up to the integer model, and goes on."""
    folder, command = victim.folder, "dvc repro --force convert_int"
    begun = time.monotonic()
    shell(folder, command)
    seconds, kills = time.monotonic() - begun, 0
    victim.begin()
    for _ in range(4):
        family = kill_after(victim.random.uniform(0.1, 0.9) * seconds, start(folder, command))
        kills += len(family) > 0
        psutil.wait_procs(family)  # a stage that has begun in this moment goes on to its end
        if (locks := folder / ".dvc/tmp/rwlock").exists() and not locks.stat().st_size:
            locks.unlink()  # DVC writes it in place; docs/troubleshooting.md says what to do
    shell(folder, command)
    assert victim.differing() == []
    assert "up to date" in shell(folder, "dvc status")
    print(f"{kills} kills of dvc repro")
    assert kills >= 3
