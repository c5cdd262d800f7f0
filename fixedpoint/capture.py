"""Capture: a PyTorch module in eval mode becomes a float program, by torch.export."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.fx import Node

from fixedpoint.floating import FloatEvaluator
from fixedpoint.program import (
    INPUT,
    Add,
    AvgPool,
    BatchNorm,
    Clamp,
    Concat,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Op,
    Pair,
    Program,
)


def capture(module: nn.Module, input_shape: tuple[int, int, int]) -> Program:
    """The float program of `module` for inputs [any batch, *input_shape].

    Raises:
        ValueError: On an operation that no program has, with its kind, its place in the module and what is supported;
            or if the program does not compute what the module does.
    """
    module = module.eval().cpu()
    example = torch.zeros(2, *input_shape)
    with torch.no_grad():
        exported = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        program = _Capture(exported).program(input_shape)
        probe = torch.rand(example.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        expected, found = module(probe), FloatEvaluator(program).logits(probe)
    # such as an in-place operation on a view, which the exported graph does not show
    if not torch.allclose(expected, found, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
        raise ValueError("the captured program computes something else than the network; is a view changed in place?")
    return program


class _Capture:
    """Walks the exported graph; one method an ATen operation, found by its name."""

    def __init__(self, exported: torch.export.ExportedProgram):
        values = {**exported.state_dict, **exported.constants}
        signature = exported.graph_signature
        targets = {s.arg.name: s.target for s in signature.input_specs if s.target is not None}
        self.nodes = list(exported.graph.nodes)
        self.values = {name: values[target].detach() for name, target in targets.items()}
        self.tensors = dict.fromkeys(signature.user_inputs, INPUT)
        self.result = signature.user_outputs
        self.ops: list[Op] = []
        self.constants: dict[str, Tensor] = {}

    def program(self, input_shape: tuple[int, int, int]) -> Program:
        for node in self.nodes:
            if node.op == "call_function" and isinstance(node.meta.get("val"), Tensor | list | tuple):
                self._call(node)
        last = self.ops[-1].name if self.ops else None
        if len(self.result) != 1 or self.tensors.get(self.result[0]) != last:
            raise ValueError("the network must have one output, computed by its last operation")
        return Program(tuple(input_shape), tuple(self.ops), self.constants)

    def _call(self, node: Node) -> None:
        aten = node.target._schema.name.removeprefix("aten::")
        kind = aten.removesuffix("_")
        handler: Callable[..., str] | None = getattr(self, f"aten_{kind}", None)
        if handler is None:
            supported = sorted(name.removeprefix("aten_") for name in vars(type(self)) if name.startswith("aten_"))
            raise ValueError(f"{aten} in {_place(node)} is not supported; supported are {', '.join(supported)}")
        self.tensors[node.name] = handler(node, _arguments(node))

    def _add(self, node: Node, op: type[Op], inputs: list[Node], constants: dict[str, Tensor], **attributes) -> str:
        """Append an operation; its result has the shape of the node's unless `shape` is given."""
        for source in inputs:
            if not isinstance(source, Node) or source.name not in self.tensors:
                raise ValueError(f"{op.kind} in {_place(node)}: its operand {source} is not computed from the input")
        stem = _path(node) if _path(node) and _is_leaf(node) else f"{_path(node)}.{op.kind}".removeprefix(".")
        taken = {INPUT} | {o.name for o in self.ops}
        name = next(n for i in range(len(taken) + 1) if (n := f"{stem}_{i}" if i else stem) not in taken)
        attributes = {"shape": tuple(int(size) for size in node.meta["val"].shape[1:])} | attributes
        self.ops.append(op(name=name, inputs=tuple(self.tensors[s.name] for s in inputs), **attributes))
        self.constants |= {f"{name}.{key}": value.float().contiguous() for key, value in constants.items()}
        return name

    def _weights(self, arguments: dict) -> dict[str, Tensor]:
        weight = self.values[arguments["weight"].name]
        bias = arguments["bias"]
        return {"weight": weight, "bias": torch.zeros(len(weight)) if bias is None else self.values[bias.name]}

    def aten_conv2d(self, node: Node, a: dict) -> str:
        padding, dilation = a["padding"], _pair(a["dilation"])
        if isinstance(padding, str):
            kernel = self.values[a["weight"].name].shape[2:]
            total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
            if any(t % 2 for t in total):
                raise ValueError(f"conv2d in {_place(node)}: padding 'same' of an even kernel is not supported")
            padding = [t // 2 for t in total]
        attributes = {"stride": _pair(a["stride"]), "padding": _pair(padding), "dilation": dilation}
        return self._add(node, Conv, [a["input"]], self._weights(a), groups=a["groups"], **attributes)

    def aten_linear(self, node: Node, a: dict) -> str:
        if node.meta["val"].dim() != 2:
            raise ValueError(f"linear in {_place(node)}: only [batch, features] is supported")
        return self._add(node, Linear, [a["input"]], self._weights(a))

    def aten_batch_norm(self, node: Node, a: dict) -> str:
        if a["running_mean"] is None:
            raise ValueError(f"batch_norm in {_place(node)}: has no running statistics to fold")
        mean, var = (self.values[a[key].name] for key in ("running_mean", "running_var"))
        scale = torch.rsqrt(var.double() + a["eps"])
        if a["weight"] is not None:
            scale = scale * self.values[a["weight"].name].double()
        shift = -mean.double() * scale
        if a["bias"] is not None:
            shift = shift + self.values[a["bias"].name].double()
        return self._add(node, BatchNorm, [a["input"]], {"scale": scale, "shift": shift})

    def aten_relu(self, node: Node, a: dict) -> str:
        return self._add(node, Clamp, [a["self"]], {}, clamp=(0.0, None))

    def aten_relu6(self, node: Node, a: dict) -> str:
        return self._add(node, Clamp, [a["self"]], {}, clamp=(0.0, 6.0))

    def aten_hardtanh(self, node: Node, a: dict) -> str:
        return self._add(node, Clamp, [a["self"]], {}, clamp=(float(a["min_val"]), float(a["max_val"])))

    def aten_clamp(self, node: Node, a: dict) -> str:
        bounds = tuple(None if a[key] is None else float(a[key]) for key in ("min", "max"))
        return self._add(node, Clamp, [a["self"]], {}, clamp=bounds)

    def aten_add(self, node: Node, a: dict) -> str:
        left, right = a["self"], a["other"]
        if a["alpha"] != 1 or (isinstance(right, Node) and left.meta["val"].shape != right.meta["val"].shape):
            raise ValueError(f"add in {_place(node)}: only tensors of equal shape are added")
        return self._add(node, Add, [left, right], {})

    def aten_avg_pool2d(self, node: Node, a: dict) -> str:
        kernel, stride = _pair(a["kernel_size"]), _pair(a["stride"] or a["kernel_size"])
        height, width = ((s - k) // t + 1 for s, k, t in zip(_map_size(a["self"]), kernel, stride, strict=True))
        if any(_pair(a["padding"])) or a["divisor_override"] or tuple(node.meta["val"].shape[2:]) != (height, width):
            raise ValueError(f"avg_pool2d in {_place(node)}: windows must lie inside the map")
        return self._add(node, AvgPool, [a["self"]], {}, kernel=kernel, stride=stride)

    def aten_adaptive_avg_pool2d(self, node: Node, a: dict) -> str:
        size, output = _map_size(a["self"]), _pair(a["output_size"])
        kernel = tuple(s // o for s, o in zip(size, output, strict=True))
        if any(s % o for s, o in zip(size, output, strict=True)):
            raise ValueError(f"adaptive_avg_pool2d in {_place(node)}: {size} is not a multiple of {output}")
        return self._add(node, AvgPool, [a["self"]], {}, kernel=kernel, stride=kernel)

    def aten_mean(self, node: Node, a: dict) -> str:
        size = _map_size(a["self"])
        if {d % 4 for d in a["dim"] or ()} != {2, 3}:
            raise ValueError(f"mean in {_place(node)}: must be over height and width")
        shape = (int(node.meta["val"].shape[1]), 1, 1)
        pooled = self._add(node, AvgPool, [a["self"]], {}, kernel=size, stride=size, shape=shape)
        if a["keepdim"]:
            return pooled
        self.tensors[node.name] = pooled
        return self._add(node, Flatten, [node], {})

    def aten_max_pool2d(self, node: Node, a: dict) -> str:
        kernel, padding = _pair(a["kernel_size"]), _pair(a["padding"])
        stride = _pair(a["stride"] or a["kernel_size"])
        size = zip(_map_size(a["self"]), kernel, stride, padding, strict=True)
        expected = tuple((s + 2 * p - k) // t + 1 for s, k, t, p in size)
        if _pair(a["dilation"]) != (1, 1) or tuple(node.meta["val"].shape[2:]) != expected:
            raise ValueError(f"max_pool2d in {_place(node)}: dilation and ceil_mode are not supported")
        return self._add(node, MaxPool, [a["self"]], {}, kernel=kernel, stride=stride, padding=padding)

    def aten_cat(self, node: Node, a: dict) -> str:
        if a["dim"] % node.meta["val"].dim() != 1:
            raise ValueError(f"cat in {_place(node)}: only channels are concatenated")
        return self._add(node, Concat, list(a["tensors"]), {})

    def aten_flatten(self, node: Node, a: dict) -> str:
        if node.meta["val"].dim() != 2 or node.meta["val"].shape[0] != a["self"].meta["val"].shape[0]:
            raise ValueError(f"flatten in {_place(node)}: only [batch, everything else] is supported")
        return self._add(node, Flatten, [a["self"]], {})

    aten_view = aten_reshape = aten_flatten

    def aten_dropout(self, node: Node, a: dict) -> str:
        return self.tensors[node.args[0].name]  # `input` of dropout, `self` of dropout_


def _arguments(node: Node) -> dict:
    """The arguments of an ATen call by name, defaults included."""
    schema = node.target._schema.arguments
    defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
    return defaults | dict(zip((a.name for a in schema), node.args, strict=False)) | node.kwargs


def _path(node: Node) -> str:
    stack = node.meta.get("nn_module_stack") or {"": ("", None)}
    return list(stack.values())[-1][0]


def _place(node: Node) -> str:
    return _path(node) or "the network"


def _is_leaf(node: Node) -> bool:
    stack = node.meta.get("nn_module_stack") or {"": ("", "")}
    return str(list(stack.values())[-1][1]).startswith("torch.nn.modules.")


def _map_size(node: Node) -> Pair:
    return tuple(int(size) for size in node.meta["val"].shape[2:])


def _pair(value: int | list[int]) -> Pair:
    height, width = (value, value) if isinstance(value, int) else (value * 2 if len(value) == 1 else value)
    return int(height), int(width)
