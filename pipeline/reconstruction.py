"""Block reconstruction with a bar, and with states in $RUNS_DIR from which it resumes."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from fixedpoint.errors import QuantizationError
from fixedpoint.program import Program
from fixedpoint.quantize.blocks import blocks
from fixedpoint.quantize.reconstruct import reconstruct
from pipeline.code import dependencies
from pipeline.forms import PTQ, stored_program
from pipeline.params import Params
from pipeline.paths import runs_folder
from storage.errors import InputError
from storage.model_file import ModelInfo, load_model, save_model
from training.checkpoint import ADVICE, run_key


@dataclass(frozen=True)
class States:
    """The program after the latest finished block of one run: a model file of the calibrated form.

    Attributes:
        folder: The run's folder.
        info: The model's description.
    """

    folder: Path
    info: ModelInfo

    def save(self, finished: int, program: Program) -> None:
        """Write the program after `finished` blocks, and then remove those before it."""
        older = self._files()
        save_model(
            self.folder / f"block_{finished:04d}.safetensors", PTQ.name, program.constants, self.info, program.to_json()
        )
        for path in older:
            path.unlink()

    def load(self) -> tuple[int, Program] | None:
        """The number of finished blocks and the program; None if there is no state.

        Raises:
            InputError: If the file is damaged.
        """
        path = next(reversed(self._files()), None)
        if path is None:
            return None
        try:
            return int(path.stem.rpartition("_")[2]), stored_program(load_model(path, (PTQ.name,)))
        except (InputError, QuantizationError) as error:
            raise InputError(f"{error}{ADVICE}") from None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("block_*.safetensors"))


def states_of(params: Params, info: ModelInfo, inputs: list[str]) -> States:
    """The states of the run that parameters, code and inputs determine.

    Args:
        params: All parameters; those that change no result are not part of the run's key.
        info: The model's description.
        inputs: Digests of the float model's file and of the database.
    """
    key = run_key(
        params=params.model_dump(include={"input", "calibrate", "validation"}),
        execution=params.execution.model_dump(include={"algorithms", "device", "threads"}),
        inputs=inputs,
        code=dependencies("calibrate", info.name),
    )
    return States(runs_folder() / f"calibrate-{key}", info)


def reconstructed(program: Program, reference: Program, images: Tensor, steps: int, states: States) -> Program:
    """The program after reconstruction of all its blocks, or of those that an earlier run has left.

    Args:
        program, reference, images, steps: As in `fixedpoint.quantize.reconstruct.reconstruct`.
        states: The states of this run.

    Raises:
        InputError: If the run's latest state is damaged.
        OSError: If a state cannot be written.
    """
    finished, start = states.load() or (0, program)
    total = steps * len(blocks(program))
    with tqdm(total=total, desc="reconstruction", unit="step", leave=False, disable=None) as bar:
        bar.update(finished * steps)
        latest = start
        for latest in reconstruct(start, reference, images, steps, finished, bar.update):
            finished += 1
            states.save(finished, latest)
    return latest
