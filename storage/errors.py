"""The error that tells the user what to change."""


class InputError(ValueError):
    """An input, a parameter, a file or the machine does not allow what was asked for.

    The message is one line: what, where, and what is allowed. Scripts print it without a traceback. Any other exception
    is a fault of the program.
    """
