"""Losses of PyTorch as losses of the library, and any other callable as its derivatives."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from . import _core
from ._callable import known_name
from ._errors import ModelError
from ._frontend import CallableLoss
from ._torch_callable import TorchLoss

# What a module's `forward` passes to the function of its loss.
MODULES: dict[type[nn.Module], tuple[Callable[..., torch.Tensor], tuple[str, ...]]] = {
    nn.CrossEntropyLoss: (F.cross_entropy, ("weight", "ignore_index", "reduction", "label_smoothing")),
    nn.MSELoss: (F.mse_loss, ("reduction",)),
    nn.BCEWithLogitsLoss: (F.binary_cross_entropy_with_logits, ("weight", "pos_weight", "reduction")),
}
STRINGS: dict[str, Callable[..., torch.Tensor]] = {
    "cross-entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "bce": F.binary_cross_entropy_with_logits,
}


class Loss:
    """A loss as a user gave it, in the two forms in which it is needed."""

    def __init__(
        self,
        given: Any,
        shape: tuple[int, ...],
        *,
        axis: int = 0,
        merged: bool = False,
        reduction: str | None = None,
        notes: list[str] | None = None,
    ) -> None:
        """`shape` is that of a sample's outputs, and `axis` that of the samples; `merged` says that positions of every sample lie on
        it too, as in [N·T, C]. `notes` receives what a user should know."""
        self.torch: Callable[..., torch.Tensor] | None = None
        """The loss in PyTorch, in double precision on the host; None for one of the library's own."""
        self.taken: _core.Loss | CallableLoss
        """The loss as the library takes it."""
        if reduction not in (None, "mean", "sum"):
            raise ModelError(f"reduction= is 'mean' or 'sum', and this is {reduction!r}")
        if isinstance(given, _core.Loss) or (isinstance(given, CallableLoss) and not isinstance(given, nn.Module)):
            self.taken = given
            return
        function, options = spelled(given)
        if function is not None:
            self.torch = fitting(function, {key: _double(value) for key, value in options.items()})
            own = own_loss(function, options, shape, axis, merged)
            if own is not None:
                self.taken = own
                return
        elif isinstance(given, nn.Module):
            self.torch = _double_module(given)
        elif callable(given):
            self.torch = given
        else:
            raise ModelError(
                f"a loss of type {type(given).__name__} cannot be taken: give a module such as torch.nn.CrossEntropyLoss(), a function "
                "(outputs, targets) -> number, or a name ('cross-entropy', 'mse', 'bce')"
            )
        if axis > 0:
            raise ModelError(
                f"the outputs have the samples on axis {axis}, and the loss {name_of(given)} is taken of outputs that have them first: "
                "transpose them in forward"
            )
        self.taken = TorchLoss(self.torch, name_of(given), shape, merged=merged, reduction=reduction, notes=notes)


def name_of(given: Any) -> str:
    """Returns the name of a loss in messages."""
    if isinstance(given, functools.partial):
        return name_of(given.func)
    return str(getattr(given, "__name__", None) or type(given).__name__)


def spelled(given: Any) -> tuple[Callable[..., torch.Tensor] | None, dict[str, Any]]:
    """Returns the function of `torch.nn.functional` that a loss is, with its options; None for any other loss.

    Raises:
        ModelError: The reduction gives no single number, or the name is no loss's.
    """
    function, options = _spelled(given)
    if function is None:
        return None, {}
    options = {key: value for key, value in options.items() if value is not None}
    old = [options.pop(key, None) for key in ("size_average", "reduce")]
    if old != [None, None]:
        averaged, reduced = (True if value is None else bool(value) for value in old)
        options["reduction"] = "none" if not reduced else "mean" if averaged else "sum"
    if options.get("reduction", "mean") not in ("mean", "sum"):
        raise ModelError(
            f"{name_of(given)} with reduction={options['reduction']!r} gives a number for every sample: take reduction='mean' or 'sum'"
        )
    return function, options


def _spelled(given: Any) -> tuple[Callable[..., torch.Tensor] | None, dict[str, Any]]:
    if isinstance(given, str):
        name = known_name(given)
        if name not in STRINGS:
            raise ModelError(f"there is no loss {given!r}: {', '.join(STRINGS)} are there, or give a module or a function of PyTorch")
        return STRINGS[name], {}
    if isinstance(given, functools.partial) and not given.args and given.func in STRINGS.values():
        return given.func, dict(given.keywords)
    if any(given is function for function in STRINGS.values()):
        return given, {}
    for kind, (function, names) in MODULES.items():
        own = isinstance(given, kind) and type(given).forward is kind.forward
        if own and not given._forward_hooks and not given._forward_pre_hooks:
            return function, {name: getattr(given, name) for name in names}
    return None, {}


def fitting(function: Callable[..., torch.Tensor], options: dict[str, Any]) -> Callable[..., torch.Tensor]:
    """Returns a function of PyTorch for targets as the library takes them: of any number type, and with or without axes of extent 1."""

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wanted = list(outputs.shape)
        if function is F.cross_entropy and not targets.is_floating_point():
            del wanted[1 if len(wanted) > 1 else 0]
            targets = targets.long()
        else:
            targets = targets.to(outputs.dtype)
        if targets.numel() == math.prod(wanted):
            targets = targets.reshape(wanted)
        return function(outputs, targets, **options)

    return loss


def check_targets(given: Any, targets: Any, shape: tuple[int, ...]) -> None:
    """Refuses targets that PyTorch refuses or broadcasts, where the library would take them.

    Raises:
        ModelError: The number type or the shape is not what the loss takes; `shape` is that of a sample's outputs.
    """
    if isinstance(given, (str, _core.Loss)) or not hasattr(targets, "dtype"):
        return
    function, _ = spelled(given)
    own, floating = tuple(targets.shape[1:]), targets.dtype.kind == "f"
    if function is F.cross_entropy and floating and own == shape[1:]:
        raise ModelError(f"the labels of {name_of(given)} are {targets.dtype} numbers: class indices are integers, so give labels.long()")
    if function in (F.mse_loss, F.binary_cross_entropy_with_logits) and own != shape and math.prod(own) == math.prod(shape):
        raise ModelError(
            f"{name_of(given)} takes targets of the shape of the outputs, [N{''.join(f', {e}' for e in shape)}], and these are "
            f"[N{''.join(f', {e}' for e in own)}]: PyTorch would refuse or broadcast them; reshape them"
        )


def own_loss(function: Any, options: dict[str, Any], shape: tuple[int, ...], axis: int, merged: bool) -> _core.Loss | None:
    """Returns the library's loss for a function of PyTorch, or None if it has none with these options."""
    rest = dict(options)
    reduction = rest.pop("reduction", "mean")
    if function is F.mse_loss and not rest:
        return _core.Loss.mse(reduction)
    if function is F.cross_entropy and set(rest) <= {"weight", "ignore_index", "label_smoothing"}:
        weight = rest.get("weight")
        return _core.Loss.cross_entropy(
            reduction,
            weight=None if weight is None else _numbers(weight),
            ignore_index=int(rest.get("ignore_index", -100)),
            label_smoothing=float(rest.get("label_smoothing", 0.0)),
        )
    if function is F.binary_cross_entropy_with_logits and set(rest) <= {"pos_weight"}:
        if "pos_weight" not in rest:
            return _core.Loss.bce(reduction)
        if axis > 0:
            return None
        weight, classes = positive_weight(rest["pos_weight"], shape, merged)
        return _core.Loss.bce(reduction, pos_weight=weight, class_axis=classes)
    return None


def positive_weight(weight: torch.Tensor, shape: tuple[int, ...], merged: bool) -> tuple[list[float], int | None]:
    """Returns a positive weight as the library takes it: one number, one for each entry of an axis, or one for each output.

    Raises:
        ModelError: PyTorch would not broadcast it to the outputs.
    """
    extents = tuple(weight.shape)
    while len(extents) > len(shape) and extents[0] == 1:
        extents = extents[1:]
    try:
        whole = weight.detach().reshape(extents).broadcast_to(shape)
    except RuntimeError as error:
        raise ModelError(
            f"pos_weight of shape {list(weight.shape)} does not fit the outputs of a sample, of shape {list(shape)}"
        ) from error
    if weight.numel() == 1:
        return _numbers(weight), None
    axes = [k for k, extent in enumerate(extents) if extent > 1]
    if len(axes) == 1 and not merged:
        # Counted from the end, as PyTorch broadcasts.
        return _numbers(weight), None if len(shape) == 1 else axes[0] - len(extents)
    return _numbers(whole), None


def _numbers(tensor: torch.Tensor) -> list[float]:
    return [float(value) for value in torch.as_tensor(tensor).detach().double().cpu().reshape(-1)]


def _double(value: Any) -> Any:
    """Returns a real tensor on the host in double precision, and anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", torch.float64 if value.is_floating_point() else value.dtype)
    return value


def _double_module(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module).to("cpu").double()
    except Exception:
        return module  # it holds what cannot be copied; its number type decides then
