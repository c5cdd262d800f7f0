"""How params.yaml wants training steps to be computed."""

from pipeline.params import Machine
from training.execution import Execution


def execution(machine: Machine) -> Execution:
    """How training steps are computed; what is `auto` is decided by the device."""
    on_cuda = machine.device == "cuda"
    precision = ("bf16" if on_cuda else "float32") if machine.precision == "auto" else machine.precision
    compiled = {"auto": on_cuda, "always": True, "never": False}[machine.compile]
    return Execution(precision, compiled, dense_groups=on_cuda and precision == "bf16")  # what has been measured
