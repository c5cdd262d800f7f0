"""The error that tells the user what to change."""


class QuantizationError(ValueError):
    """A network, a program, an image or a file does not allow what was asked for.

    The message is one line: what, where, and what is allowed. Any other exception is a fault of the quantizer.
    """
