"""Run a network once on the meta device and record what it does: layers, their order, shapes and costs.

The record is taken from the functions that torch executes, so it holds for any module, not only for known blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_NORMS = ("batch_norm", "group_norm", "layer_norm", "instance_norm")
_ACTIVATIONS = ("relu", "relu_", "gelu", "silu", "sigmoid", "leaky_relu", "hardswish", "mish", "elu", "tanh")
_MAX_POOLS = ("max_pool1d", "max_pool2d", "max_pool3d")
_AVERAGE_POOLS = ("avg_pool1d", "avg_pool2d", "avg_pool3d")
_VIEWS = (
    *("transpose", "flatten", "reshape", "view", "unsqueeze", "squeeze", "permute", "contiguous", "to", "__get__"),
    *("dropout", "expand"),
)
_SUMS = ("add", "add_", "__add__", "__iadd__", "__radd__")


@dataclass(frozen=True)
class Window:
    """The input positions that output position p may depend on: ``p * jump + low`` to ``p * jump + high``, per axis.

    Args:
        everything: whether a layer on the way reads all positions.
    """

    jump: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    everything: bool = False

    @property
    def extent(self) -> tuple[int, ...]:
        """Number of positions from the first to the last, per axis."""
        return tuple(high - low + 1 for low, high in zip(self.low, self.high, strict=True))

    def slid(self, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Window:
        """Return the window after a convolution or pool."""
        axes = len(self.jump)
        sizes, steps, pads, spread = (_per_axis(value, axes) for value in (kernel, stride, padding, dilation))
        return Window(
            tuple(jump * step for jump, step in zip(self.jump, steps, strict=True)),
            tuple(low - jump * pad for low, jump, pad in zip(self.low, self.jump, pads, strict=True)),
            tuple(
                high + jump * (wide * (size - 1) - pad)
                for high, jump, pad, wide, size in zip(self.high, self.jump, pads, spread, sizes, strict=True)
            ),
            self.everything,
        )

    def joined(self, other: Window) -> Window:
        """Return the window of a value that depends on both."""
        return Window(
            self.jump,
            tuple(map(min, self.low, other.low)),
            tuple(map(max, self.high, other.high)),
            self.everything or other.everything,
        )


@dataclass(eq=False)
class Step:
    """One step of the forward pass: a module with layers of its own, or a function executed outside of any.

    Args:
        place: names of the modules around it, outermost first; with its own at the end, unless it is a function.
        parents: the steps whose outputs it reads; -1 is the input of the network.
    """

    number: int
    place: tuple[str, ...]
    module: nn.Module | None
    function: str
    parents: set[int] = field(default_factory=set)
    shape: tuple[int, ...] = ()
    flops: int = 0
    activations: int = 0
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: int = 1
    groups: int = 1
    functions: list[str] = field(default_factory=list)


class Recorder(TorchFunctionMode):
    """Record the steps of a forward pass, and each tensor's window and origin.

    Args:
        is_container: whether a module's children and functions are steps of their own; any other module is one step.
    """

    def __init__(self, is_container: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.calls: dict[str, tuple[Tensor, Tensor]] = {}
        self._is_container = is_container
        self._stack: list[tuple[str, nn.Module]] = []
        self._unit: tuple[int, Step] | None = None  # depth of the module that is one step, and that step
        self._origin: dict[int, int] = {}
        self._window: dict[int, Window | None] = {}
        self._alive: list[Tensor] = []  # so that no id is used twice

    def begin(self, x: Tensor, axes: int) -> None:
        """Note the network's input, with this many positional axes."""
        self._keep(x, -1, Window((1,) * axes, (0,) * axes, (0,) * axes))

    def window(self, x: Tensor) -> Window:
        """Return a recorded tensor's window."""
        found = self._window[id(x)]
        assert found is not None
        return found

    def origin(self, x: Tensor) -> int:
        """Return the number of the step that made a recorded tensor."""
        return self._origin[id(x)]

    def made_by(self, number: int) -> list[Tensor]:
        """Return the recorded tensors of a step, latest first."""
        return [x for x in reversed(self._alive) if self._origin[id(x)] == number]

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Record everything that the network executes."""
        handles = []
        for name, module in network.named_modules():
            if module is not network:
                handles.append(module.register_forward_pre_hook(lambda m, _i, name=name: self._enter(name, m)))
                handles.append(module.register_forward_hook(lambda _m, i, o, name=name: self._leave(name, i, o)))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str, module: nn.Module) -> None:
        self._stack.append((name, module))
        if self._unit is None and not self._is_container(module) and not isinstance(module, nn.Identity):
            self._unit = (len(self._stack), self._new_step(module, ""))

    def _leave(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            self.calls[name] = (inputs[0], output)
            if self._unit is not None and self._unit[0] == len(self._stack):
                self._finish(self._unit[1], inputs[0], output)
        if self._unit is not None and self._unit[0] == len(self._stack):
            self._unit = None
        self._stack.pop()

    def _finish(self, step: Step, given: Tensor, output: Tensor) -> None:
        if not step.functions:  # it changed nothing, such as dropout in eval mode
            self.steps.remove(step)
            if step.parents:
                self._origin[id(output)] = min(step.parents)
            return
        step.shape = tuple(output.shape[1:])
        step.parents.discard(step.number)
        self._keep(output, step.number, self._window.get(id(output), self._window.get(id(given))))

    def _new_step(self, module: nn.Module | None, function: str) -> Step:
        number = self.steps[-1].number + 1 if self.steps else 0
        place = tuple(name for name, _ in self._stack)
        self.steps.append(Step(number, place, module, function))
        return self.steps[-1]

    def _keep(self, x: Tensor, origin: int, window: Window | None) -> None:
        self._alive.append(x)
        self._origin[id(x)], self._window[id(x)] = origin, window

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", str(func)), kwargs or {}
        inputs = [x for x in _tensors((args, kwargs)) if id(x) in self._origin]
        if name == "batch_norm":  # keeps shapes; slow on the meta device
            with torch._C.DisableTorchFunction():
                output: Any = torch.empty_like(args[0])
        else:
            output = func(*args, **kwargs)
        results = list(_tensors(output))
        if not results or not inputs or name == "__get__":
            return output
        window = self._window_after(name, args, kwargs, inputs, results[0])
        parents = {self._origin[id(x)] for x in inputs}
        if self._unit is None and name in _VIEWS:
            step_number = max(parents)
        else:
            step = self._unit[1] if self._unit else self._new_step(None, name)
            step.parents |= parents - {step.number}
            self._count(step, name, args, kwargs, results[0])
            step_number = step.number
        for result in results:
            self._keep(result, step_number, window)
        return output

    def _count(self, step: Step, name: str, args: Any, kwargs: Any, output: Tensor) -> None:
        if name not in _VIEWS or self._unit is None:
            step.functions.append(name)
        step.shape = tuple(output.shape[1:])
        if name in (*CONVOLUTIONS, "linear"):
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            step.flops += weight[0].numel() * output.numel()  # multiply-adds per output value, times output values
            step.activations += output.numel()
        if name in CONVOLUTIONS:
            _, stride, _, dilation, groups = _convolution(args, kwargs)
            axes = output.ndim - 2
            step.kernel, step.stride = tuple(weight.shape[2:]), _per_axis(stride, axes)
            step.dilation, step.groups = max(_per_axis(dilation, axes)), groups
        elif name in (*_MAX_POOLS, *_AVERAGE_POOLS):
            kernel, stride, _ = _pool(args, kwargs)
            step.kernel, step.stride = _per_axis(kernel, output.ndim - 2), _per_axis(stride, output.ndim - 2)
        elif name == "__getitem__":
            step.stride = tuple(_steps(args[1])) or step.stride

    def _window_after(self, name: str, args: Any, kwargs: Any, inputs: list[Tensor], output: Tensor) -> Window | None:
        windows = [window for x in inputs if (window := self._window[id(x)]) is not None]
        if not windows:
            return None
        window = windows[0]
        for other in windows[1:]:
            window = window.joined(other)
        if name in CONVOLUTIONS and len(window.jump) == output.ndim - 2:
            padding, stride, _, dilation, _ = _convolution(args, kwargs)
            return window.slid(tuple(args[1].shape[2:]), stride, padding, dilation)
        if name in _MAX_POOLS:
            kernel, stride, padding = _pool(args, kwargs)
            return window.slid(kernel, stride, padding)
        if name in _AVERAGE_POOLS:
            # A window cut at the edge of a small input is a whole one elsewhere.
            _, stride, padding = _pool(args, kwargs)
            return window.slid(stride, stride, padding)
        if name == "pad":
            axes = len(window.jump)
            before = [*args[1][::2], *[0] * axes][:axes]  # from the last axis to the first
            return window.slid(1, 1, tuple(reversed(before)))
        if name == "__getitem__" and (steps := tuple(_steps(args[1]))):
            return window.slid(1, steps, 0)
        if name in ("mean", "amax", "sum", "max", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"):
            return Window(window.jump, window.low, window.high, True)
        return window


def kind_of_step(step: Step) -> str:
    """Return the kind of layer, see `structure.Layer.kind`."""
    done = set(step.functions)
    if step.module is not None and done & {"sigmoid", "mul", "__mul__", "softmax"} and len(done) > 1:
        return "attention"
    if "pad" in done and not done & set(CONVOLUTIONS):
        return "zeros"
    kinds = {
        "conv": CONVOLUTIONS,
        "linear": ("linear",),
        "norm": _NORMS,
        "activation": _ACTIVATIONS,
        "pool": (*_MAX_POOLS, *_AVERAGE_POOLS, "adaptive_avg_pool2d"),
        "embedding": ("embedding",),
        "sum": _SUMS,
    }
    found = [kind for kind, names in kinds.items() if done & set(names)]
    if found and len(found) == 1:
        return found[0]
    return found[0] if "conv" not in found and found else "other"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _convolution(args: Any, kwargs: Any) -> tuple[Any, Any, Any, Any, int]:
    """Return padding, stride, bias, dilation and groups of a call of ``conv*d``."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **dict(zip(names, args, strict=False)), **kwargs}
    if given["padding"] == "same":
        sizes, dilation = given["weight"].shape[2:], given["dilation"]
        given["padding"] = tuple(d * (k - 1) // 2 for k, d in zip(sizes, _per_axis(dilation, len(sizes)), strict=True))
    elif given["padding"] == "valid":
        given["padding"] = 0
    return given["padding"], given["stride"], given.get("bias"), given["dilation"], given["groups"]


def _pool(args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
    """Return kernel, stride and padding of a call of a pool."""
    given = {**dict(zip(("input", "kernel_size", "stride", "padding"), args, strict=False)), **kwargs}
    kernel = given["kernel_size"]
    return kernel, given.get("stride") or kernel, given.get("padding", 0)


def _steps(index: Any) -> Iterator[int]:
    """Yield the steps of slices after those of batch and channels."""
    if isinstance(index, tuple) and all(isinstance(each, slice) for each in index):
        yield from (each.step or 1 for each in index[2:])


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(int(each) for each in value)
    return values * axes if len(values) == 1 else values
