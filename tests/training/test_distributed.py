"""Training by two processes compared with training by one.

A process that has imported everything forks them, and forks them again after one of them has died, as torchrun does.
"""

import ast  # noqa: I001 - pipeline comes first
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pipeline  # noqa: F401 - pins the instruction set, before torch is imported
import pytest
import torch
from torch import distributed
from training_runs import FORMAT, STEPS, batches, network, recipe

from imagedb.reader import ImageDatabase
from pipeline.fitting import predict_together
from pipeline.logits import float_logits
from pixels.batches import BatchPartition, OrderedBatches, Pixels
from pixels.seeds import derive_seed
from pixels.views import center_views
from storage.errors import InputError
from training import engine
from training.checkpoint import Checkpoints
from training.distributed import Group, joined, local_rank, own_rank
from training.losses import label_loss
from training.mixing import Mixing
from training.step import TrainingStep

CPU = torch.device("cpu")


class Recording(engine.Observer):
    """Records the loss and the images of each step; a process may kill itself before one of them."""

    def __init__(self, dies_at=None):
        self.losses, self.images, self.dies_at = [], [], dies_at

    def epoch(self, steps, epoch, done):
        for parts in steps:
            self.images.append([pixels[:, 0, 0, 0].tolist() for pixels, _ in parts])
            if len(self.images) == self.dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield parts

    def step(self, figures):
        self.losses.append(figures()["train_loss"])

    def request(self):
        return engine.Request.SAVE


def fit(database: ImageDatabase, folder: Path, group: Group, dropout: float, observer: engine.Observer, **changes):
    """A run of two epochs with everything that could differ between processes."""
    given = recipe(epochs=2, mixup=0.4, ema_decay=0.5, clip_grad=1).model_copy(update=changes)
    step = TrainingStep(network(dropout=dropout), given, label_loss(0.1), group=group, mixing=Mixing(given, 3))
    partition = BatchPartition(group.rank, given.processes, given.accumulate)
    val = OrderedBatches(Pixels(database, center_views(FORMAT), FORMAT), 10, 0, partition=partition)

    def validate(model, between):
        logits, labels = predict_together(float_logits(model, CPU), val, 3, group, between)
        assert labels.tolist() == [index % 3 for index in range(26)], "every image once, in order"
        return {"top1": float((logits.argmax(1) == labels).double().mean()), "loss": float(logits.std())}

    data = {1: batches(database, partition=partition)}
    return engine.fit(step, data, validate, Checkpoints(folder, 2, group), observer=observer)


def digest(model_weights: dict) -> int:
    return derive_seed(*(int(value.double().sum() * 2**40) for value in model_weights.values()))


def run_process(database: str, folder: str, dies_at: str = "0") -> None:
    """The work of each process."""
    with joined(2, CPU) as group:
        alive = group.rank == 0 or os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"
        observer = Recording(None if alive else int(dies_at))
        fitted = fit(ImageDatabase(database), Path(folder), group, 0.5, observer, processes=2)
    found = {"history": fitted.history, "losses": observer.losses, "images": observer.images}
    found |= {"last": digest(fitted.last), "best": digest(fitted.best)}
    Path(folder, f"rank{group.rank}.json").write_text(json.dumps(found))


def fork(restarts: int, *arguments: str) -> list[int]:
    """The exit codes of two processes; both are started again if one of them dies."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        if not (child := os.fork()):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it dies with what has forked it
            own = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            os.environ |= own | {"TORCHELASTIC_RESTART_COUNT": str(restarts)}
            run_process(*arguments)
            os._exit(0)
        children.append(child)
    first, status = os.wait()
    if status:
        (other,) = {*children} - {first}
        os.kill(other, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(status), os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])]
        return codes if restarts else [*codes, *fork(1, *arguments)]
    return [0, os.waitstatus_to_exitcode(os.wait()[1])]


@pytest.fixture(scope="module")
def runs(database, tmp_path_factory):
    """The results of both processes: of an uninterrupted run, and of one in which the second process is killed."""
    folders = [tmp_path_factory.mktemp(name) for name in ("straight", "killed")]
    here = Path(__file__)
    paths = os.pathsep.join(map(str, (here.parent, here.parents[1], here.parents[2])))
    own = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::FutureWarning"}
    command = [sys.executable, here, database.path, *folders]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    straight, killed = (ast.literal_eval(line) for line in done.stdout.splitlines())
    assert straight == [0, 0] and killed == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
    return [[json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)] for folder in folders]


@pytest.fixture(scope="module")
def straight(runs):
    return runs[0]


def test_two_processes_see_the_images_of_one_and_reach_its_losses(database, tmp_path, straight):
    """Their losses are within a relative 1e-5 of those of one process that computes the same parts in sequence."""
    alone = Recording()
    fitted = fit(database, tmp_path, Group(), 0.5, alone, accumulate=2)
    both = [[one[0], other[0]] for one, other in zip(*(each["images"] for each in straight), strict=True)]
    assert both == alone.images
    means = [sum(pair) / 2 for pair in zip(*(each["losses"] for each in straight), strict=True)]
    assert means == pytest.approx(alone.losses, rel=1e-5)
    for row, expected in zip(straight[0]["history"], fitted.history, strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
        assert row["train_top1"] == expected["train_top1"]


def test_all_processes_have_the_same_weights_and_scores(straight):
    first, second = straight
    assert first["history"] == second["history"]
    assert first["last"] == second["last"]


def test_killed_processes_start_again_from_a_checkpoint_and_end_with_the_same_bytes(runs):
    straight, killed = (found[0] for found in runs)
    for name in ("history", "last", "best"):
        assert killed[name] == straight[name]
    assert len(killed["images"]) < 2 * STEPS, "it has started at its beginning"


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "LOCAL_RANK": "1"}
MISSING = "is not in the environment, but others of torchrun's variables are; unset them"
NO_NUMBER = "in the environment, must be a number, as torchrun sets it"


@pytest.fixture
def torchrun(monkeypatch):
    """A function that sets torchrun's variables, changed ones among them; None removes one."""

    def set_all(**changes):
        for name, value in (TORCHRUN | changes).items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    set_all(**dict.fromkeys(TORCHRUN))
    return set_all


def test_the_place_among_processes(torchrun):
    assert (own_rank(1), own_rank(2), local_rank()) == (0, 0, 0), "torchrun has not been called"
    torchrun(LOCAL_RANK="0")
    assert (own_rank(2), local_rank()) == (1, 0)
    torchrun(RANK="0", WORLD_SIZE="1", MASTER_PORT=None)
    assert own_rank(1) == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"WORLD_SIZE": None}, f"WORLD_SIZE {MISSING}"),
        ({"RANK": None}, f"RANK {MISSING}"),
        ({"MASTER_ADDR": None}, f"MASTER_ADDR {MISSING}"),
        ({"MASTER_PORT": None}, f"MASTER_PORT {MISSING}"),
        ({"RANK": "one"}, f"RANK is 'one' {NO_NUMBER}"),
        ({"RANK": "-1"}, f"RANK is '-1' {NO_NUMBER}"),
        ({"WORLD_SIZE": ""}, f"WORLD_SIZE is '' {NO_NUMBER}"),
        ({"MASTER_PORT": "²"}, f"MASTER_PORT is '²' {NO_NUMBER}"),
        ({"RANK": "2"}, "RANK is 2, must be below WORLD_SIZE, which is 2"),
        ({"WORLD_SIZE": "4"}, "torchrun has started 4 processes, but `processes` is 2"),
        ({"WORLD_SIZE": "1"}, "torchrun has started 1 processes, but `processes` is 2"),
    ],
)
def test_variables_with_which_images_would_be_lost(torchrun, changes, said):
    torchrun(**changes)
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        own_rank(2)
    with pytest.raises(InputError), joined(2, CPU):
        pass


@pytest.mark.parametrize("value", [None, "gpu"])
def test_a_process_of_several_without_a_gpu_of_its_own(torchrun, value):
    torchrun(LOCAL_RANK=value)
    with pytest.raises(InputError, match=r"^LOCAL_RANK is "):
        local_rank()


def test_buffers_are_not_sent_before_each_step(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        assert not Group(0, 2).wrap(network()).will_sync_module_buffers()
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    _, path, first, second = sys.argv
    print(fork(0, path, first), flush=True)
    print(fork(0, path, second, str(STEPS + 2)))
