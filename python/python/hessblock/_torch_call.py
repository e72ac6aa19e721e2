"""The call of a module: its arguments from the data, and the outputs that it returns."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from . import _data_files as files
from ._errors import ModelError
from ._frontend import Data
from ._text import first_line, listed
from ._torch_export import unique, user_frame
from ._torch_module import eager, evaluation

# Samples of an example: more than one, so that no axis of samples is taken for one of a single entry.
EXAMPLE = 2
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class Call:
    """The way from the inputs of the data to the arguments of `forward`."""

    names: list[str]
    """The inputs' names in the graph, in the order of the data."""
    keys: list[str | None]
    """The arguments by name or the keys of the dictionary; None for arguments by position."""
    whole: bool = False
    """Whether the inputs go in as one dictionary."""

    def arguments(self, tensors: list[torch.Tensor], module: nn.Module) -> Arguments:
        """Returns the arguments of `forward` for tensors in the order of the data."""
        if self.whole:
            return ({key: tensor for key, tensor in zip(self.keys, tensors, strict=True)},), {}
        if all(key is None for key in self.keys):
            return tuple(tensors), {}
        given = {str(key): tensor for key, tensor in zip(self.keys, tensors, strict=True)}
        arguments: list[Any] = []
        last = 0
        for name, parameter in inspect.signature(module.forward).parameters.items():
            if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_POSITIONAL):
                break
            if name not in given and parameter.default is inspect.Parameter.empty:
                break
            last = len(arguments) + 1 if name in given else last
            arguments.append(given.pop(name, parameter.default))
        del arguments[last:]
        return tuple(arguments), given

    def order(self, module: nn.Module) -> list[str]:
        """Returns the inputs' names in the order of the tensors of the call."""
        marks = [torch.empty(0) for _ in self.names]
        named = {id(mark): name for mark, name in zip(marks, self.names, strict=True)}
        leaves, _ = pytree.tree_flatten(self.arguments(marks, module))
        return [named[id(leaf)] for leaf in leaves if isinstance(leaf, torch.Tensor)]


def bind(module: nn.Module, data: Data, taken: set[str]) -> Call:
    """Finds how the data's inputs are passed to a module. No input's name in the graph is in `taken`.

    Raises:
        ModelError: `forward` does not take them.
    """
    label, keys = type(module).__name__, [name for name, _ in data.inputs]
    parameters = inspect.signature(module.forward).parameters
    kinds = [parameter.kind for parameter in parameters.values()]
    usual = [name for name, parameter in parameters.items() if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]
    needed = [name for name in usual if parameters[name].default is inspect.Parameter.empty]
    takes = f"forward of {label} takes {listed(usual) or 'any arguments'}"
    used = set(taken)
    if all(key is None for key in keys):
        lacking = needed[len(keys) :]
        if lacking or (len(keys) > len(usual) and inspect.Parameter.VAR_POSITIONAL not in kinds):
            raise ModelError(f"{takes}, and the data have {len(keys)} inputs: give a tuple or a dictionary of them, as (inputs, targets)")
        names = (usual + [f"input{k}" for k in range(len(usual), len(keys))])[: len(keys)]
        return Call([_unclashing(name, used) for name in names], keys)
    texts = [str(key) for key in keys]
    free = inspect.Parameter.VAR_KEYWORD in kinds
    if (free or set(texts) <= set(usual)) and set(needed) <= set(texts):
        return Call([_unclashing(name, used) for name in texts], keys)
    if len(needed) == 1 and not set(texts) & set(usual):
        return Call([_unclashing(name, used) for name in texts], keys, whole=True)
    raise ModelError(f"{takes}, and the data have the inputs {listed(texts)}")


def _unclashing(name: str, used: set[str]) -> str:
    return unique(f"{name}_input" if name in used else name, used)


def tensors(data: Data, start: int, stop: int, real: np.dtype[Any], *, floats: bool = False) -> list[torch.Tensor]:
    """Returns samples of the data's inputs as tensors, real numbers as `real`; integers too if `floats`."""
    made = []
    for _, source in data.inputs:
        array: NDArray[Any] = files.take(source, start, stop)
        if array.dtype.kind == "f" or (floats and array.dtype.kind in "iu"):
            array = array.astype(real)
        elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)
        if not array.flags.writeable or not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))  # a copy: PyTorch warns of tensors that cannot be written to
        made.append(torch.from_numpy(np.ascontiguousarray(array)))
    return made


@dataclass
class Outputs:
    """The tensors that a module returns for an example."""

    names: list[str]
    values: list[torch.Tensor]
    chosen: int

    @property
    def value(self) -> torch.Tensor:
        """The output that the loss is taken of."""
        return self.values[self.chosen]


def run(module: nn.Module, call: Arguments) -> Any:
    """Calls a module without gradients."""
    with torch.no_grad(), eager():
        return module(*call[0], **call[1])


def outputs(module: nn.Module, returned: Any, output: str | int | None, taken: set[str]) -> Outputs:
    """Names the tensors that a module returns, and finds the one that the loss is taken of.

    Raises:
        ModelError: There are several and none is chosen, or it holds no real numbers.
    """
    label = type(module).__name__
    leaves = pytree.tree_leaves(returned)
    values = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if not values:
        raise ModelError(f"forward of {label} returns {type(returned).__name__}, and no tensor")
    keys: list[str] = []
    if isinstance(returned, Mapping) and len(returned) == len(values):
        keys = [str(key) for key in returned]
    elif hasattr(returned, "_fields") and len(returned) == len(values):
        keys = list(returned._fields)
    elif len(values) > 1:
        keys = [f"output{k}" for k in range(len(values))]
    chosen = 0
    if keys and len(values) > 1:
        found = output if isinstance(output, int) else keys.index(output) if output in keys else None
        if found is None or not -len(values) <= found < len(values):
            choice = "choose one by output=" if output is None else f"{output!r} is not among them: output= takes"
            raise ModelError(f"{label} returns {len(values)} tensors; {choice} {listed([repr(key) for key in keys])}")
        chosen = found % len(values)
    value = values[chosen]
    if not value.is_floating_point():
        raise ModelError(f"the output of {label} is of {str(value.dtype).removeprefix('torch.')}: a loss is taken of real numbers")
    used = set(taken)
    return Outputs([_unclashing(name, used) for name in keys or ["output"]], values, chosen)


def example(module: nn.Module, call: Call, data: Data, real: np.dtype[Any], place: Any) -> tuple[list[torch.Tensor], Any]:
    """Calls a module in evaluation mode with a few samples; returns these (on the host) and what it returns.

    `place` moves tensors to the module's device and type.

    Raises:
        ModelError: The module fails; for a batch that is baked in, the message names its size.
    """

    def attempt(samples: int, floats: bool) -> tuple[list[torch.Tensor], Any]:
        given = [_repeated(tensor, samples) for tensor in tensors(data, 0, min(samples, data.samples), real, floats=floats)]
        with evaluation(module):
            return given, run(module, call.arguments([place(tensor) for tensor in given], module))

    whole = [files.take(source, 0, 1).dtype.kind in "iu" for _, source in data.inputs]
    try:
        return attempt(EXAMPLE, False)
    except Exception as error:
        failed = error
    if any(whole):  # images of bytes, for a module that takes real numbers
        with contextlib.suppress(Exception):
            return attempt(EXAMPLE, True)
    label, works = type(module).__name__, None
    for samples in (1, *(2**k for k in range(2, 10))):
        with contextlib.suppress(Exception):
            attempt(samples, False)
            works = samples
            break
    if works is not None:
        raise ModelError(
            f"{label} works for a fixed batch of {works} samples only{user_frame(failed)}: its code must take the number of samples "
            "from its inputs, such as x.view(x.shape[0], -1) or x.flatten(1)"
        ) from failed
    text = first_line(str(failed)) or type(failed).__name__
    raise ModelError(f"{label} fails on {EXAMPLE} samples of the data{user_frame(failed)}: {text}") from failed


def _repeated(tensor: torch.Tensor, samples: int) -> torch.Tensor:
    """Returns as many samples as asked for, the first ones again where there are too few."""
    times = -(-samples // len(tensor))
    return tensor if len(tensor) == samples else torch.cat([tensor] * times)[:samples].clone()
