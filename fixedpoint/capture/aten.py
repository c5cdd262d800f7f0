"""Turns each ATen operation of an exported network into operations of a program."""

from fixedpoint.capture.resampling import Resampling


class AtenOperations(Resampling):
    """One method for each operation that PyTorch's networks are made of; `capture.names` lists those without one."""
