"""Losses of JAX: names, functions of Optax, and any other callable through its derivatives."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from . import _core
from ._callable import Derivatives, FunctionLoss, Labels, known_name
from ._errors import ModelError
from ._frontend import CallableLoss



def double() -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which JAX computes in double precision."""
    made: Any = getattr(jax, "enable_x64", None)
    if made is None:  # JAX before 0.8
        made = importlib.import_module("jax.experimental").enable_x64
    context: contextlib.AbstractContextManager[Any] = made(True)
    return context


def cross_entropy(outputs: Any, targets: Any) -> Any:
    """Returns the mean cross-entropy of logits over their last axis; targets are classes or probabilities."""
    logarithms = jax.nn.log_softmax(outputs)
    if jnp.issubdtype(targets.dtype, jnp.integer):
        return -jnp.take_along_axis(logarithms, targets[..., None], -1).mean()
    return -(targets * logarithms).sum(-1).mean()


def mse(outputs: Any, targets: Any) -> Any:
    """Returns the mean of all squared differences."""
    return ((outputs - targets.reshape(outputs.shape)) ** 2).mean()


def bce(outputs: Any, targets: Any) -> Any:
    """Returns the mean binary cross-entropy of logits."""
    return (jax.nn.softplus(outputs) - outputs * targets.reshape(outputs.shape)).mean()


STRINGS: dict[str, Callable[[Any, Any], Any]] = {"cross-entropy": cross_entropy, "mse": mse, "bce": bce}


class Loss:
    """A loss as a user gave it, in the two forms in which it is needed."""

    def __init__(self, given: Any, shape: tuple[int, ...], reduction: str | None, notes: list[str] | None = None) -> None:
        """`shape` is that of a sample's outputs, and `notes` receives what a user should know.

        Raises:
            ModelError: It is no loss.
        """
        self.jax: Callable[..., Any] | None = None
        """The loss in JAX; None for one of the library's own."""
        self.taken: _core.Loss | CallableLoss
        """The loss as the library takes it."""
        if reduction not in (None, "mean", "sum"):
            raise ModelError(f"reduction= is 'mean' or 'sum', and this is {reduction!r}")
        if isinstance(given, _core.Loss) or (isinstance(given, CallableLoss) and not callable(given)):
            self.taken = given
        elif isinstance(given, str):
            name = known_name(given)
            if name not in STRINGS:
                raise ModelError(f"there is no loss {given!r}: {', '.join(STRINGS)} are there, or give a function (outputs, targets)")
            self.jax = STRINGS[name]
            # JAX has classes on the last axis.
            last = -1 if len(shape) > 1 else None
            self.taken = _core.Loss.cross_entropy(class_axis=last) if name == "cross-entropy" else _core.Loss.parse(name)
        elif given is not None and given is optax_cross_entropy():
            self.jax = cross_entropy
            last = -1 if len(shape) > 1 else None
            self.taken = _core.Loss.cross_entropy(reduction or "mean", ignore_index=None, class_axis=last)
            if reduction == "sum":
                self.jax = lambda outputs, targets: given(outputs, targets).sum()
        elif callable(given):
            made = JaxLoss(given, shape, reduction, notes)
            self.jax, self.taken = made.batch, made
        else:
            raise ModelError(
                f"a loss of type {type(given).__name__} cannot be taken: give a name ('cross-entropy', 'mse', 'bce') or a function "
                "(outputs, targets) -> number"
            )


def optax_cross_entropy() -> Any:
    """Returns Optax' cross-entropy of classes, which is the library's own, where Optax is in use; else an object of no use."""
    return getattr(sys.modules.get("optax"), "softmax_cross_entropy_with_integer_labels", object())


class JaxLoss(FunctionLoss):
    """A loss `function(outputs, targets)`, or `function(outputs)` without targets: the mean or the sum over samples.

    A function that returns an array, such as those of Optax, is taken with the mean of its entries, or their sum where
    `reduction` says so.
    """

    def __init__(
        self, function: Callable[..., Any], shape: tuple[int, ...], reduction: str | None = None, notes: list[str] | None = None
    ) -> None:
        """`shape` is that of a sample's outputs."""
        super().__init__(str(getattr(function, "__name__", type(function).__name__)), shape, reduction=reduction, notes=notes)
        self.function = function
        self.tolerance = 1e-6
        self._piece: Callable[..., Any] | None = None

    def batch(self, outputs: Any, targets: Any = None) -> Any:
        """Returns the loss of a batch [n, shape…] as a number."""
        value = self.function(outputs) if targets is None else self.function(outputs, targets)
        value = jnp.asarray(value)
        if value.ndim == 0:
            return value
        return value.sum() if self.given == "sum" else value.mean()

    def one(self, outputs: Any, targets: Any = None) -> Any:
        """Returns the loss of one sample whose outputs are flat."""
        return self.batch(outputs.reshape(1, *self.shape), None if targets is None else targets[None])

    def derivatives(self, outputs: NDArray[np.float64], targets: Labels | str) -> Derivatives:
        """Returns values [N], gradients [N, C] and Hessians [N, C, C] at outputs [N, C], with the reduction's weight in all three.

        Raises:
            ModelError: The function is neither the mean nor the sum of the samples' losses, or cannot be differentiated.
        """
        with double():
            return super().derivatives(outputs, targets)

    def value(self, outputs: NDArray[np.float64], targets: Labels) -> float:
        """Returns the loss of a batch, with outputs [n, C]."""
        z = jnp.asarray(outputs, jnp.float64).reshape(len(outputs), *self.shape)
        return float(self.batch(z, None if targets is None else on_device(targets)))

    def prepare(self, outputs: NDArray[np.float64], targets: Labels) -> None:
        """Tries the function on a few samples.

        Raises:
            ModelError: It fails.
        """
        try:
            self.value(outputs, targets)
        except Exception as error:
            raise self.failed(outputs, targets, error) from error

    def piece(self, outputs: NDArray[np.float64], targets: Labels) -> tuple[Any, Any, Any]:
        """Returns values, gradients and Hessians of the samples' own losses."""
        z = jnp.asarray(outputs, jnp.float64)
        found: tuple[Any, Any, Any] = self.compiled()(z) if targets is None else self.compiled()(z, on_device(targets))
        return found

    def compiled(self) -> Callable[..., Any]:
        """Returns the function that gives values, gradients and Hessians of the samples' own losses."""
        if self._piece is None:

            def all_of(*arguments: Any) -> Any:
                value, gradient = jax.value_and_grad(self.one)(*arguments)
                return value, gradient, jax.hessian(self.one)(*arguments)

            self._piece = jax.jit(jax.vmap(all_of))
        return self._piece

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_piece": None}


def on_device(values: NDArray[Any]) -> Any:
    """Returns numbers as an array of JAX; those with a point in double precision."""
    return jnp.asarray(values, jnp.float64 if values.dtype.kind == "f" else None)
