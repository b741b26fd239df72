"""Interpret a pickle without running it: tensors are rebuilt, everything else becomes an inert stand-in.

The standard unpickler imports whatever a file names and calls it. This one is an interpreter of its own: a name is
looked up in one fixed table of tensor-building operations, and any other name, called or not, gives a `StandIn`, a
record that nothing can be called on. No module is imported, no attribute of a real object is read or set.
"""

from __future__ import annotations

import math
import mmap
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

MAX_PICKLE = 64 * 2**20
"""Bytes of one pickle, tensors not counted: ImageNet networks with their optimiser's state need under one MiB."""
MAX_OPERATIONS = 1_000_000
"""Opcodes of one pickle; each makes at most one object."""
MAX_NESTING = 1_000
"""Maximum nesting depth of containers."""
MAX_COPIED = 2 * MAX_PICKLE
"""Maximum bytes copied by operations; without it, one string copied repeatedly would fill memory."""
_ELEMENT = 64
"""Estimated bytes per element of a copied container."""
_MAX_KEY = 2**60
"""Larger integers can have equal hashes, so that a dictionary of them takes quadratic time."""


class UnpickleError(Exception):
    """The pickle is damaged, or larger than any checkpoint."""


class CodeError(Exception):
    """The pickle names a function that only an attack would use. Nothing was called."""


@dataclass(frozen=True, slots=True)
class StandInClass:
    """The name of a class or function in a pickle; nothing is imported."""

    name: str


@dataclass(slots=True, eq=False)
class StandIn:
    """The data of an object of an unknown class.

    Args:
        name: of the class, or of the function that would have created it.
        arguments: of the call.
        state: the state that would have been set on it.
        items: the key-value pairs that would have been stored in it.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of values in the file.

    Args:
        memory: the bytes.
        dtype: of its elements.
        offset: first element of this storage in `memory`.
        size: number of elements.
    """

    memory: torch.UntypedStorage
    dtype: torch.dtype
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class StorageKind:
    """The storage class that a persistent id names; an untyped one counts in bytes."""

    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class _Operation:
    """Our implementation of a tensor-building function that a pickle names."""

    run: Callable[..., Any]


def size_of(dtype: torch.dtype) -> int:
    """Return the bytes per element."""
    return torch.empty(0, dtype=dtype).element_size()


def is_count(value: object) -> bool:
    """Return whether this is a size or an offset: a non-negative integer within torch's range."""
    return type(value) is int and 0 <= value < 2**62


def unpickle(source: bytes | IO[bytes] | mmap.mmap, storage: Callable[[Any], Any]) -> Any:
    """Interpret one pickle.

    Args:
        source: the pickle, or a file positioned at its start; a file is left positioned after its end.
        storage: maps a persistent id to its storage.

    Raises UnpickleError for a damaged or excessive pickle, CodeError for one that names a function that runs code;
    exceptions of the standard library on damaged opcodes pass through.
    """
    return _Interpreter(storage).run(source)


class _Interpreter:
    """A pickle's stack machine (opcodes as in the standard library's pickletools)."""

    def __init__(self, storage: Callable[[Any], Any]) -> None:
        self.storage = storage
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, source: bytes | IO[bytes] | mmap.mmap) -> Any:
        start: int | None = None
        for count, (opcode, argument, position) in enumerate(pickletools.genops(source)):  # type: ignore[arg-type]
            start = position if start is None else start
            if count >= MAX_OPERATIONS or (position or 0) - (start or 0) > MAX_PICKLE:
                raise UnpickleError("the pickle in it is too large")
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _PUSHED:
                self.stack.append(argument)
            elif (step := _STEPS.get(opcode.name)) is not None:
                step(self, argument)
            else:
                raise UnpickleError(f"opcode {opcode.name} has no place in a checkpoint")
        raise UnpickleError("the pickle in it has no end")

    def spend(self, amount: int) -> None:
        self.copied += amount
        if self.copied > MAX_COPIED:
            raise UnpickleError("the pickle in it copies too much")

    # The stack

    def mark(self, _: Any) -> None:
        if len(self.marked) >= MAX_NESTING:
            raise UnpickleError("the pickle in it is nested too deeply")
        self.marked.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        above, self.stack = self.stack, self.marked.pop()
        return above

    def drop_mark(self, _: Any) -> None:
        self.pop_mark()

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def put(self, key: int | None) -> None:
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def get(self, key: int) -> None:
        self.stack.append(self.memo[key])

    # Containers

    def collect(self, build: Callable[[list[Any]], Any]) -> None:
        items = self.pop_mark()
        self.stack.append(build(items))

    def tuple_of(self, length: int) -> None:
        if len(self.stack) < length:
            raise UnpickleError("the pickle in it takes more than it has")
        items = self.stack[-length:]
        self.stack[-length:] = [tuple(items)]

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(map(_key, items))
        elif not isinstance(target, StandIn):  # the elements of a StandIn are not used
            raise UnpickleError(f"a {type(target).__name__} cannot be appended to")

    def store(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, StandIn):
            target.items = {} if target.items is None else target.items
            target = target.items
        if type(target) is not dict:
            raise UnpickleError(f"a {type(target).__name__} has no keys")
        target.update(_pairs(items))

    # Names and calls

    def name(self, name: str) -> None:
        self.stack.append(_resolve(name))

    def name_on_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise UnpickleError("a class in it is named by something that is not text")
        self.stack.append(_resolve(f"{module} {name}"))

    def extension(self, code: int) -> None:
        """Push a stand-in for a copyreg extension code; our registry is never consulted."""
        self.stack.append(StandInClass(f"copyreg extension {code}"))

    def call(self, function: Any, arguments: Any) -> None:
        if isinstance(function, _Operation) and type(arguments) is tuple:
            self.stack.append(function.run(self, *arguments))
            return
        name = function.name if isinstance(function, StandInClass) else f"a call of {type(function).__name__}"
        self.stack.append(StandIn(name, arguments if type(arguments) is tuple else ()))

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.call(function, arguments)

    def new_with_keywords(self, _: Any) -> None:
        self.stack.pop()
        self.reduce(None)

    def instance(self, name: str) -> None:
        arguments = self.pop_mark()
        self.call(_resolve(name), tuple(arguments))

    def instance_on_stack(self, _: Any) -> None:
        function, *arguments = self.pop_mark()
        self.call(function, tuple(arguments))

    def build(self, _: Any) -> None:
        """Store a stand-in's state; real objects (tensors, containers) have none."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, StandIn):
            target.state = state

    def persistent(self, _: Any) -> None:
        self.stack.append(self.storage(self.stack.pop()))


_PUSHED = frozenset(
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING "  # noqa: SIM905
    "SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8".split()
)
_Step = Callable[[_Interpreter, Any], None]
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda _machine, _argument: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Interpreter.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Interpreter.get),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _Interpreter.extension),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Interpreter.reduce),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "MARK": _Interpreter.mark,
    "POP": _Interpreter.pop,
    "POP_MARK": _Interpreter.drop_mark,
    "DUP": _Interpreter.duplicate,
    "TUPLE": lambda machine, _: machine.collect(tuple),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.collect(list),
    "DICT": lambda machine, _: machine.collect(lambda items: dict(_pairs(items))),
    "FROZENSET": lambda machine, _: machine.collect(lambda items: frozenset(map(_key, items))),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.pop_mark()),
    "SETITEM": lambda machine, _: machine.store([machine.stack.pop(), machine.stack.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.store(machine.pop_mark()),
    "GLOBAL": _Interpreter.name,
    "STACK_GLOBAL": _Interpreter.name_on_stack,
    "NEWOBJ_EX": _Interpreter.new_with_keywords,
    "INST": _Interpreter.instance,
    "OBJ": _Interpreter.instance_on_stack,
    "BUILD": _Interpreter.build,
    "BINPERSID": _Interpreter.persistent,
}


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return [(_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)]


def _key(value: Any) -> Any:
    """Return the value if it is cheap to hash, else a stand-in: nested tuples are hashed repeatedly."""
    if isinstance(value, StandIn | StandInClass | str | bytes | float | bool | None):
        return value
    if type(value) is int and abs(value) < _MAX_KEY:
        return value
    return StandIn(f"a key of type {type(value).__name__}")


# Names in a pickle


def _resolve(name: str) -> Any:
    """Resolve ``module name`` to one of our operations or a stand-in."""
    module, _, attribute = name.partition(" ")
    module = _PYTHON_2.get(module, module)
    full = f"{module}.{attribute}"
    if module.partition(".")[0] in _CODE_MODULES or full in _CODE:
        raise CodeError(full)
    if module in ("torch", "torch.cuda", "torch.storage") and attribute in _STORAGES:
        return StorageKind(_STORAGES[attribute])
    if module == "torch" and attribute in _DTYPES:
        return _DTYPES[attribute]
    return _OPERATIONS.get(full) or StandInClass(full)


_CODE_MODULES = frozenset(
    "os posix nt subprocess sys shutil socket runpy importlib pty ctypes webbrowser pip".split()  # noqa: SIM905
)
_CODE = frozenset(
    f"builtins.{name}" for name in ("eval", "exec", "execfile", "compile", "open", "__import__", "breakpoint", "input")
)
"""Functions that show a file to be an attack. The list only improves the message: they would be inert as well."""

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Modules that protocol 2 still writes under their Python 2 names."""

_DTYPES = {
    name: getattr(torch, name)
    for name in "float16 bfloat16 float32 float64 int8 uint8 int16 int32 int64 bool complex64 complex128".split()  # noqa: SIM905
}
_STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


def _tensor(_machine: _Interpreter, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """Build a view of a storage, checked to be within it; gradients and hooks are dropped."""
    if not isinstance(storage, Storage):
        raise UnpickleError("a tensor in it has no storage")
    return _view(storage, storage.dtype, offset, size, stride)


def _tensor_of_type(
    _machine: _Interpreter,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    _grad: Any,
    _hooks: Any,
    dtype: Any,
    *_: Any,
) -> Tensor:
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise UnpickleError("a tensor in it has no storage")
    return _view(storage, dtype, offset, size, stride)


def _view(storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> Tensor:
    shape, steps = _counts(size), _counts(stride)
    if len(shape) != len(steps) or len(shape) > 16 or not is_count(offset):
        raise UnpickleError("a tensor in it has an impossible shape")
    count, each, held = math.prod(shape), size_of(dtype), size_of(storage.dtype)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    last = offset + sum((length - 1) * step for length, step in zip(shape, steps, strict=True))
    if (last + 1) * each > storage.size * held:
        raise UnpickleError("a tensor in it reaches beyond its storage")
    start = storage.offset * held + offset * each
    if count >= 2**62 or start % each:
        raise UnpickleError("a tensor in it has an impossible shape")
    return torch.empty(0, dtype=dtype).set_(storage.memory, start // each, shape, steps)


def _counts(values: Any) -> tuple[int, ...]:
    if type(values) not in (tuple, list) or not all(is_count(value) for value in values):
        raise UnpickleError("a tensor in it has an impossible shape")
    return tuple(values)


def _first_tensor(_machine: _Interpreter, data: Any = None, *_: Any) -> Any:
    """Return a parameter's tensor."""
    return data if isinstance(data, Tensor) else StandIn("torch.nn.parameter.Parameter")


def _subclass(machine: _Interpreter, function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    """Return the plain tensor of a subclass or of a tensor with attributes."""
    if function in _REBUILDERS and type(arguments) is tuple:
        return function.run(machine, *arguments)
    return StandIn("torch._tensor._rebuild_from_type_v2")


def _object(_machine: _Interpreter, kind: Any = None, *_: Any) -> StandIn:
    """Create an object of a class as in protocols 0 and 1."""
    return StandIn(kind.name if isinstance(kind, StandInClass) else "copyreg._reconstructor")


def _dictionary(machine: _Interpreter, pairs: Any = (), *_: Any) -> Any:
    if type(pairs) not in (tuple, list) or not all(type(pair) in (tuple, list) and len(pair) == 2 for pair in pairs):
        return StandIn("collections.OrderedDict")
    machine.spend(_ELEMENT * len(pairs))
    return {_key(key): value for key, value in pairs}


def _container(build: Callable[[Any], Any], name: str) -> Callable[..., Any]:
    def run(machine: _Interpreter, items: Any = (), *_: Any) -> Any:
        if type(items) not in (tuple, list):
            return StandIn(name)
        machine.spend(_ELEMENT * len(items))
        return build(items)

    return run


def _encode(machine: _Interpreter, text: Any = "", encoding: Any = "latin1", *_: Any) -> Any:
    """Decode bytes as written by protocol 2."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        return StandIn("_codecs.encode")
    machine.spend(len(text))
    return text.encode("latin1")


_REBUILDERS = (_Operation(_tensor), _Operation(_tensor_of_type), _Operation(_first_tensor))
_OPERATIONS: dict[str, _Operation] = {
    "torch._utils._rebuild_tensor": _REBUILDERS[0],
    "torch._utils._rebuild_tensor_v2": _REBUILDERS[0],
    "torch._utils._rebuild_tensor_v3": _REBUILDERS[1],
    "torch._utils._rebuild_parameter": _REBUILDERS[2],
    "torch._utils._rebuild_parameter_with_state": _REBUILDERS[2],
    "torch.nn.parameter.Parameter": _REBUILDERS[2],
    "torch._tensor._rebuild_from_type_v2": _Operation(_subclass),
    "torch.Size": _Operation(_container(tuple, "torch.Size")),
    "collections.OrderedDict": _Operation(_dictionary),
    "copyreg._reconstructor": _Operation(_object),
    "_codecs.encode": _Operation(_encode),
    "builtins.set": _Operation(_container(lambda items: set(map(_key, items)), "set")),
    "builtins.frozenset": _Operation(_container(lambda items: frozenset(map(_key, items)), "frozenset")),
}
