"""Any loss of PyTorch through `torch.func`: its value, gradient and Hessian at the outputs of every sample."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import _spool
from ._callable import FunctionLoss, Labels, out_of_memory
from ._errors import ModelError
from ._text import first_line

_LOG = logging.getLogger("hessblock")


class TorchLoss(FunctionLoss):
    """A loss `function(outputs, targets)`, or `function(outputs)` if there are no targets, that is the mean or the sum over samples."""

    def __init__(
        self,
        function: Callable[..., torch.Tensor],
        name: str,
        shape: tuple[int, ...],
        *,
        merged: bool = False,
        reduction: str | None = None,
        limit: int = _spool.LIMIT,
        notes: list[str] | None = None,
    ) -> None:
        """`shape` is that of a sample's outputs; `merged` says that their first axis lies on that of the samples, as in [N·T, C]."""
        super().__init__(name, shape, reduction=reduction, limit=limit, notes=notes)
        self.function, self.merged = function, merged
        self.real = torch.float64
        """The number type that the function takes."""

    def value(self, outputs: NDArray[np.float64], targets: Labels) -> float:
        """Returns the loss of a batch, with outputs [n, C]."""
        with torch.no_grad():
            return float(self.batch(*self.tensors(outputs, targets)))

    def piece(self, outputs: NDArray[np.float64], targets: Labels) -> tuple[Any, Any, Any]:
        """Returns values, gradients and Hessians of the samples' own losses."""
        values, gradients, hessians = self.each(*self.tensors(outputs, targets))
        return tuple(part.detach().double().cpu().numpy(force=True) for part in (values, gradients, hessians))  # type: ignore[return-value]

    def tensors(self, outputs: NDArray[np.float64], targets: Labels) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns outputs [n, shape…] and targets as tensors."""
        z = torch.from_numpy(np.array(outputs)).reshape(len(outputs), *self.shape).to(self.real)
        if targets is None:
            return z, None
        y = torch.from_numpy(np.array(targets))  # a copy: the function may write to it
        return z, y.to(self.real) if y.is_floating_point() else y

    def batch(self, outputs: torch.Tensor, targets: torch.Tensor | None) -> torch.Tensor:
        """Returns the loss of a batch [n, shape…], as the function takes it.

        Raises:
            ModelError: It is not one number.
        """
        if self.merged:
            outputs = outputs.flatten(0, 1)
            targets = targets.flatten(0, 1) if targets is not None and targets.ndim > 1 else targets
        value = self.function(outputs) if targets is None else self.function(outputs, targets)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            what = f"a tensor of shape {list(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise ModelError(f"the loss {self.name} returns {what}: it must return one number, such as the mean over the batch")
        return value.reshape(())

    def one(self, outputs: torch.Tensor, targets: torch.Tensor | None) -> torch.Tensor:
        """Returns the loss of one sample, [shape…]."""
        return self.batch(outputs[None], None if targets is None else targets[None])

    def each(self, z: torch.Tensor, y: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns values, gradients and Hessians of the samples' own losses."""

        def flat(outputs: torch.Tensor, targets: torch.Tensor | None) -> torch.Tensor:
            return self.one(outputs.reshape(self.shape), targets)

        def all_of(outputs: torch.Tensor, targets: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            gradient, value = torch.func.grad_and_value(flat)(outputs, targets)
            # Reverse over reverse: forward over reverse is wrong through some functions (layer_norm in torch 2.15).
            return value, gradient, torch.func.jacrev(torch.func.grad(flat))(outputs, targets)

        rows = z.flatten(1)
        try:
            mapped: Any = torch.func.vmap(all_of, in_dims=(0, None if y is None else 0))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of operations that vmap takes one by one
                values, gradients, hessians = mapped(rows, y)
            return values, gradients, hessians
        except ModelError:
            raise
        except Exception as error:
            # Functions that torch.func cannot take: conditions on values, item(), operations in place.
            if out_of_memory(error):
                raise
            _LOG.info("the loss %s is differentiated a sample at a time, as torch.func cannot take it: %s", self.name, first_line(error))
        try:
            return self.one_by_one(rows, y)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            raise ModelError(f"PyTorch gives no second derivative of the loss {self.name}: {error}") from error

    def one_by_one(self, rows: torch.Tensor, y: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the same as `each`, a sample at a time."""
        values, gradients, hessians = [], [], []
        for n, row in enumerate(rows):
            target = None if y is None else y[n]
            leaf = row.detach().requires_grad_()
            with torch.enable_grad():
                value = self.one(leaf.reshape(self.shape), target)
                (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
                second = [
                    torch.autograd.grad(entry, leaf, retain_graph=True, allow_unused=True)[0] if entry.requires_grad else None
                    for entry in gradient
                ]
            values.append(value.detach())
            gradients.append(gradient.detach())
            hessians.append(torch.stack([torch.zeros_like(leaf) if each is None else each for each in second]).detach())
        return torch.stack(values), torch.stack(gradients), torch.stack(hessians)

    def prepare(self, outputs: NDArray[np.float64], targets: Labels) -> None:
        """Finds the function's number type, and that it has a gradient.

        Raises:
            ModelError: It fails, or has no gradient.
        """
        self.find_type(outputs, targets)
        self.tolerance = 1e-9 if self.real is torch.float64 else 1e-4
        z, y = self.tensors(outputs, targets)
        with torch.enable_grad():
            value = self.batch(z.clone().requires_grad_(), y)
        if not value.requires_grad:
            raise ModelError(
                f"the loss {self.name} gives a number without a gradient: compute it from the outputs by operations of PyTorch, without "
                "detach(), item() or NumPy"
            )

    def find_type(self, outputs: NDArray[np.float64], targets: Labels) -> None:
        """Takes single precision for a function whose own tensors are of single precision."""
        try:
            self.batch(*self.tensors(outputs, targets))
            return
        except ModelError:
            raise
        except Exception as error:
            first = error
        self.real = torch.float32
        try:
            self.batch(*self.tensors(outputs, targets))
        except Exception:
            self.real = torch.float64
            raise self.failed(outputs, targets, first) from first
