"""How params.yaml wants training steps to be computed."""

from pipeline.params import Execute
from training.execution import Execution


def execution(wanted: Execute) -> Execution:
    """How training steps are computed; what is `auto` is decided by the device."""
    on_cuda = wanted.device == "cuda"
    precision = ("bf16" if on_cuda else "float32") if wanted.precision == "auto" else wanted.precision
    compiled = {"auto": on_cuda, "always": True, "never": False}[wanted.compile]
    return Execution(precision, compiled, dense_groups=on_cuda and precision == "bf16")  # what has been measured
