"""The blocks of a program: runs of operations between points where one tensor alone is still to be read."""

from fixedpoint.program import INPUT, Op, Program, is_fixed

Block = tuple[Op, ...]


def blocks(program: Program) -> list[Block]:
    """All operations in runs, as short as they can be, that read one tensor from before and have a layer to train.

    That is a residual unit with its shortcut, or a single layer between two of these. What follows the last layer
    belongs to its run.

    Args:
        program: Any program with a conv or linear that is not fixed.
    """
    found: list[Block] = []
    run: list[Op] = []
    alive = {INPUT}
    for op in program.ops:
        run.append(op)
        alive = {name for name in (*alive, op.name) if program.last_reader.get(name) != op.name}
        if len(alive) == 1 and trained_layers(run):
            found.append((*run,))
            run = []
    return [*found[:-1], (*found[-1], *run)]


def trained_layers(ops: Block | list[Op]) -> list[Op]:
    """The convs and linears among `ops` whose weights can change."""
    return [op for op in ops if op.weighted and not is_fixed(op)]
