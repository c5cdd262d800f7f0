"""Operations that move values, one for each thing that they can be, for programs of both arithmetics."""

from collections.abc import Sequence

from fixedpoint.program import INPUT, Bounds, Clamp, Concat, Conv, Op, Rearrange, Select

Shape = tuple[int, ...]


def select(
    name: str, source: str, channels: Sequence[int], rows: Sequence[int] = (), columns: Sequence[int] = ()
) -> Select:
    chosen = tuple(channels), tuple(rows), tuple(columns)
    return Select(name, (source,), tuple(len(axis) for axis in chosen if axis), *chosen)


def rearrange(name: str, source: str, view: Shape, axes: Shape, shape: Shape) -> Rearrange:
    return Rearrange(name, (source,), shape, view, axes)


def moved(*chosen: Sequence[int]) -> Op:
    return select("x", INPUT, *chosen)


def ordered(view: Shape, axes: Shape, shape: Shape) -> Op:
    return rearrange("x", INPUT, view, axes, shape)


# By name: the shape of the input, and the operations.
MOVES: dict[str, tuple[tuple[int, int, int], list[Op]]] = {
    "select_channels": ((6, 4, 5), [moved(range(1, 4), range(4), range(5))]),
    "select_rows": ((3, 6, 5), [moved(range(3), range(2, 5), range(5))]),
    "select_columns": ((3, 4, 6), [moved(range(3), range(4), range(1, 5))]),
    "select_steps": ((5, 6, 7), [moved(range(1, 5, 3), range(0, 6, 2), range(1, 7, 3))]),
    "select_flip": ((3, 4, 5), [moved(range(3), range(4), range(4, -1, -1))]),
    "select_flip_all": ((3, 4, 6), [moved(range(2, 0, -1), range(3, -1, -1), range(5, 0, -2))]),
    "select_shuffle": ((6, 3, 4), [moved([0, 3, 1, 4, 2, 5], range(3), range(4))]),
    "select_roll": ((3, 4, 5), [moved(range(3), [3, 0, 1, 2], [2, 3, 4, 0, 1])]),
    "select_reflect": ((3, 4, 3), [moved(range(3), [2, 1, 0, 1, 2, 3, 2], [1, 0, 1, 2, 1])]),
    "select_replicate": ((3, 2, 3), [moved(range(3), [0, 0, 1, 1, 1], [0, 1, 2, 2])]),
    "select_repeat": ((3, 4, 3), [moved(range(3), [i // 2 for i in range(8)], [i // 3 for i in range(9)])]),
    "select_repeat_rows": ((3, 4, 3), [moved(range(3), [i // 2 for i in range(8)], range(3))]),
    "select_repeat_some": ((3, 4, 4), [moved(range(3), [0, 0, 1, 1], [1, 1, 2, 2])]),
    "select_cut_and_repeat": ((6, 4, 3), [moved(range(0, 6, 2), [0, 0, 1, 1, 2, 2, 3, 3], [2, 1, 1])]),
    "select_spread_channel": ((1, 3, 4), [moved([0] * 5, range(3), range(4))]),
    "select_spread_pixel": ((3, 1, 1), [moved(range(3), [0] * 4, [0] * 5)]),
    "select_last": ((3, 4, 5), [moved([2], [3], [4])]),
    "select_all": ((3, 4, 5), [moved(range(3), range(4), range(5))]),
    "select_features": (
        (12, 2, 1),
        [
            rearrange("f", INPUT, (12, 2), (1, 0), (24,)),
            select("a", "f", range(3, 20, 2)),
            select("b", "f", [7, 7, 0, 23, 5]),
            Concat("x", ("a", "b"), (14,)),
        ],
    ),
    "rearrange_shuffle_pixels": ((12, 3, 4), [ordered((3, 2, 2, 3, 4), (0, 3, 1, 4, 2), (3, 6, 8))]),
    "rearrange_unshuffle_pixels": ((3, 4, 6), [ordered((3, 2, 2, 3, 2), (0, 2, 4, 1, 3), (12, 2, 3))]),
    "rearrange_shuffle_channels": ((12, 3, 4), [ordered((3, 4, 3, 4), (1, 0, 2, 3), (12, 3, 4))]),
    "rearrange_merge_patches": ((3, 4, 6), [ordered((3, 2, 2, 3, 2), (4, 2, 0, 1, 3), (12, 2, 3))]),
    "rearrange_swap_rows_and_columns": ((3, 4, 5), [ordered((3, 4, 5), (0, 2, 1), (3, 5, 4))]),
    "rearrange_swap_channels_and_rows": ((3, 4, 5), [ordered((3, 4, 5), (1, 0, 2), (4, 3, 5))]),
    "rearrange_channels_last": ((3, 4, 5), [ordered((3, 4, 5), (1, 2, 0), (4, 5, 3))]),
    "rearrange_in_six_axes": ((12, 6, 4), [ordered((3, 4, 2, 3, 2, 2), (5, 3, 1, 0, 4, 2), (6, 12, 4))]),
    "rearrange_column_to_row": ((7, 1, 1), [ordered((7,), (0,), (1, 1, 7)), Clamp("y", ("x",), (1, 1, 7))]),
    "rearrange_to_features": ((6, 2, 3), [ordered((6, 2, 3), (1, 2, 0), (36,)), Clamp("y", ("x",), (36,))]),
    "rearrange_features_to_map": (
        (12, 2, 3),
        [rearrange("f", INPUT, (72,), (0,), (72,)), rearrange("x", "f", (72,), (0,), (4, 3, 6))],
    ),
    "rearrange_reversed": ((2, 3, 4), [ordered((2, 3, 4), (2, 1, 0), (4, 3, 2))]),
    "rearrange_between_sizes": ((4, 3, 3), [ordered((6, 6), (1, 0), (9, 2, 2))]),  # 6 and 9 do not divide each other
    "rearrange_between_sizes_twice": ((4, 3, 3), [ordered((6, 6), (1, 0), (3, 4, 3))]),
    "rearrange_as_large_between": ((16, 2, 2), [ordered((2,) * 6, (4, 2, 0, 1, 3, 5), (4, 4, 4))]),
    "rearrange_ones": ((3, 4, 5), [ordered((1, 3, 1, 20), (2, 1, 3, 0), (3, 20, 1))]),
    "moves_in_a_row": (  # views of views, written over
        (4, 4, 6),
        [
            Clamp("a", (INPUT,), (4, 4, 6), clamp=(-0.75, 0.75)),
            select("b", "a", range(4), range(4), range(6)),
            rearrange("c", "b", (4, 2, 2, 6), (0, 2, 1, 3), (8, 2, 6)),
            Clamp("d", ("c",), (8, 2, 6), clamp=(0.0, None)),
            select("e", "d", [1, 0, 7, 7, 2, 3], range(1, -1, -1), range(6)),
            rearrange("f", "e", (6, 2, 6), (2, 1, 0), (72,)),
            rearrange("g", "f", (72,), (0,), (72, 1, 1)),
            Clamp("h", ("g",), (72, 1, 1), clamp=(0.125, 0.5)),
            rearrange("i", "h", (72,), (0,), (1, 1, 72)),
            Clamp("j", ("i",), (1, 1, 72), clamp=(0.25, 0.5)),
        ],
    ),
}

# Those that are programs in exact8, too: C and ONNX files, which these are for, compute random ones besides.
IN_EXACT8 = (
    *("select_columns", "select_steps", "select_flip", "select_flip_all", "select_shuffle", "select_reflect"),
    *("select_repeat_some", "select_cut_and_repeat", "select_features", "rearrange_shuffle_pixels"),
    *("rearrange_shuffle_channels", "rearrange_to_features", "rearrange_reversed", "rearrange_between_sizes"),
    *("rearrange_between_sizes_twice", "moves_in_a_row"),
)
BORDER = [1, *range(16), 14]
RELU, RELU6 = (0.0, None), (0.0, 6.0)


def conv(name: str, source: str, shape: Shape, padding: int = 1, groups: int = 1, clamp: Bounds = (None, None)) -> Conv:
    return Conv(name, (source,), shape, (1, 1), (padding, padding), (1, 1), groups, clamp=clamp)


# Half of the channels is convolved, and all are shuffled; then the map is made larger, with a border of what it holds.
SHUFFLED: list[Op] = [
    conv("stem", INPUT, (8, 8, 8), clamp=RELU),
    select("kept", "stem", range(4), range(8), range(8)),
    select("half", "stem", range(4, 8), range(8), range(8)),
    conv("changed", "half", (4, 8, 8), clamp=RELU6),
    Concat("both", ("kept", "changed"), (8, 8, 8)),
    rearrange("shuffled", "both", (2, 4, 8, 8), (1, 0, 2, 3), (8, 8, 8)),
    conv("mix", "shuffled", (8, 8, 8), groups=2),
    rearrange("large", "mix", (2, 2, 2, 8, 8), (0, 3, 1, 4, 2), (2, 16, 16)),
    Clamp("bounded", ("large",), (2, 16, 16), clamp=RELU),
    select("border", "bounded", range(2), BORDER, BORDER),
    conv("last", "border", (4, 16, 16), padding=0),
]
