"""The blocks that a network may be built from: ours by name, and those that a program registers. Imports no torch."""

from __future__ import annotations

import inspect
from typing import Any

from restune.core.errors import UserError

BLOCKS = ("basic", "bottleneck", "triple")
_EXPANSION = {"basic": 1, "bottleneck": 4, "triple": 1}
"""How many times wider a block's output is than its `width` (He et al. 2016, section 4.1)."""

_ALWAYS = ("in_channels", "out_channels", "stride")
OPTIONAL = ("dims", "dilation", "groups", "residual", "drop_path", "shortcut", "norm", "act")
"""Constructor arguments that a registered block gets if it names them."""

_registered: dict[str, type[Any]] = {}


def register_block(name: str, block: type[Any]) -> None:
    """Register a block class, so that `name` is a block wherever a network's settings are: ``block="NAME"``.

    Register it in every program that loads a model with it: the model's file stores the name, not the code.

    Args:
        name: a Python identifier.
        block: a subclass of ``torch.nn.Module``. Its constructor is called with the keyword arguments `in_channels`,
            `out_channels` and `stride`, and with those of the following that it names: `dims` (1, 2 or 3), `dilation`,
            `groups`, `residual` (bool), `drop_path` (rate), `norm` (a function from channels to the network's norm),
            `act` (a function to the network's activation) and `shortcut` (the network's shortcut as a module; None for
            an identity). A setting that the block does not name must be at its default.

            Its forward pass maps ``[N, in_channels, H, W]`` to ``[N, out_channels, H / stride, W / stride]``, rounded
            up, shortcut and last activation included; for series of different lengths it takes a second argument
            `mask`, bool ``[N, L]``, True at real positions of its input. The class attribute `expansion` (1 if
            absent) says how many times wider than the stage's width the output is. Convolutions are initialised like
            all others (He et al. 2015); a method ``initialize()`` is called after that.

    Raises UserError for the name of another block and for a constructor that needs other arguments.

    >>> from torch import nn
    >>> class ConvBlock(nn.Module):
    ...     def __init__(self, in_channels, out_channels, stride, norm, act):
    ...         super().__init__()
    ...         self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    ...         self.norm, self.act = norm(out_channels), act()
    ...     def forward(self, x):
    ...         return self.act(self.norm(self.conv(x)))
    >>> restune.register_block("ConvBlock", ConvBlock)
    >>> network = restune.create_model("resnet20", block="ConvBlock", act="gelu")  # or block=ConvBlock
    >>> type(network.layer1[0]).__name__, network.spec.stages[0].block
    ('ConvBlock', 'ConvBlock')
    """
    where = f"register_block({name!r}, ...)"
    if not (isinstance(name, str) and name.isidentifier()):
        raise UserError("a block's name is a Python identifier", where=where, fix="use letters, digits and underscores")
    if not (isinstance(block, type) and callable(getattr(block, "forward", None))):
        raise UserError("a block is a class derived from torch.nn.Module", where=where, fix="pass the class itself")
    known = _registered.get(name)
    if name in BLOCKS or (known is not None and _place(known) != _place(block)):
        whose = "restune's own" if known is None else _place(known)
        raise UserError(f"{name!r} is the name of another block ({whose})", where=where, fix="use another name")
    _reject_other_arguments(block, where)
    width = getattr(block, "expansion", 1)
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise UserError(f"expansion must be a whole number of at least 1, not {width!r}", where=block.__name__)
    _registered[name] = block


def block_name(block: str | type[Any]) -> str:
    """Return a block's name; register a class under its own."""
    if not isinstance(block, type):
        return block
    name = next((name for name, known in _registered.items() if known is block), block.__name__)
    register_block(name, block)
    return name


def registered_block(name: str) -> type[Any] | None:
    """Return the class registered under a name; None for our own blocks and unknown names."""
    return _registered.get(name)


def known_blocks() -> tuple[str, ...]:
    """Return the names of all blocks."""
    return (*BLOCKS, *_registered)


def expansion(name: str) -> int:
    """Return how many times wider a block's output is than its stage's width."""
    block = _registered.get(name)
    return _EXPANSION[name] if block is None else int(getattr(block, "expansion", 1))


def arguments(block: type[Any]) -> tuple[str, ...]:
    """Return the optional constructor arguments that a registered block takes."""
    parameters = inspect.signature(block).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return tuple(name for name in OPTIONAL if takes_any or name in parameters)


def _reject_other_arguments(block: type[Any], where: str) -> None:
    parameters = inspect.signature(block).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    missing = [name for name in _ALWAYS if name not in parameters and not takes_any]
    if missing:
        raise UserError(
            f"the constructor of {block.__name__} does not take {missing[0]!r}",
            where=where,
            fix=f"let it take {', '.join(_ALWAYS)}, and any of {', '.join(OPTIONAL)}",
        )
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and name not in (*_ALWAYS, *OPTIONAL)
    ]
    if needed:
        raise UserError(
            f"the constructor of {block.__name__} needs {needed[0]!r}, which a network does not provide",
            where=where,
            fix=f"give it a default; a block may take {', '.join((*_ALWAYS, *OPTIONAL))}",
        )


def _place(block: type[Any]) -> str:
    return f"{block.__module__}.{block.__qualname__}"
