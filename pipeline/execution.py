"""The execution of training steps that params.yaml describes."""

from pipeline.params import Execute
from training.execution import Execution


def execution(wanted: Execute) -> Execution:
    """The execution of training steps; the device decides what `auto` means."""
    on_cuda = wanted.device == "cuda"
    precision = ("bf16" if on_cuda else "float32") if wanted.precision == "auto" else wanted.precision
    compiled = {"auto": on_cuda, "always": True, "never": False}[wanted.compile]
    return Execution(precision, compiled, dense_groups=on_cuda and precision == "bf16")  # measured to be faster there
