"""Any loss of PyTorch through `torch.func`: its value, gradient and Hessian at the outputs of every sample."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import _data_files as files
from . import _spool
from ._errors import ModelError

# Samples with which mean and sum are told apart.
TRIED = 8
# Bytes of Hessians that are computed at once.
CHUNK = 1 << 25


class TorchLoss:
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
    ) -> None:
        """`shape` is that of a sample's outputs; `merged` says that their first axis lies on that of the samples, as in [N·T, C]."""
        self.function, self.name, self.shape, self.merged, self.limit = function, name, shape, merged, limit
        self.reduction = reduction
        """"mean" or "sum"; found at the first use if not given."""
        self.real = torch.float64
        """The number type that the function takes."""

    def __repr__(self) -> str:
        return f"{self.name}({self.reduction or 'reduction not found yet'})"

    def derivatives(
        self, outputs: NDArray[np.float64], targets: NDArray[Any] | str | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Returns values [N], gradients [N, C] and Hessians [N, C, C] at outputs [N, C], with the reduction's weight in all three.

        Hessians that are larger than the limit lie in a temporary file.

        # Errors
        `ModelError` if the function is neither the mean nor the sum of the samples' losses, or has no gradient.
        """
        samples, count = outputs.shape
        labels = None if targets is None else files.take(targets, 0, samples)
        self.prepare(outputs, labels)
        weight = 1.0 / samples if self.reduction == "mean" else 1.0
        values, gradients = np.empty(samples), np.empty((samples, count))
        hessians = _spool.empty((samples, count, count), np.float64, self.limit)
        step = max(1, CHUNK // (8 * count * count))
        for start in range(0, samples, step):
            part = slice(start, min(start + step, samples))
            z, y = self.tensors(outputs[part], None if labels is None else labels[part])
            for whole, piece in zip((values, gradients, hessians), self.piece(z, y), strict=True):
                whole[part] = piece.detach().double().cpu().numpy().reshape(whole[part].shape)
                whole[part] *= weight
        return values, gradients, hessians

    def tensors(self, outputs: NDArray[np.float64], targets: NDArray[Any] | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns outputs [n, shape…] and targets as tensors."""
        z = torch.from_numpy(np.array(outputs)).reshape(len(outputs), *self.shape).to(self.real)
        if targets is None:
            return z, None
        y = torch.from_numpy(np.array(targets))  # a copy: the function may write to it
        return z, y.to(self.real) if y.is_floating_point() else y

    def batch(self, outputs: torch.Tensor, targets: torch.Tensor | None) -> torch.Tensor:
        """Returns the loss of a batch [n, shape…], as the function takes it.

        # Errors
        `ModelError` if it is not one number.
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

    def piece(self, z: torch.Tensor, y: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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
        except Exception:
            # Functions that torch.func cannot take: conditions on values, item(), operations in place.
            pass
        try:
            return self.one_by_one(rows, y)
        except RuntimeError as error:
            raise ModelError(f"PyTorch gives no second derivative of the loss {self.name}: {error}") from error

    def one_by_one(self, rows: torch.Tensor, y: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `piece`, a sample at a time."""
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

    def prepare(self, outputs: NDArray[np.float64], targets: NDArray[Any] | None) -> None:
        """Finds the function's number type, that it has a gradient, and whether it takes the mean or the sum over samples.

        # Errors
        `ModelError` if it fails, draws at random, has no gradient, or mixes samples.
        """
        tried = min(len(outputs), TRIED)
        few, labels = outputs[:tried], None if targets is None else targets[:tried]
        self.find_type(few, labels)
        z, y = self.tensors(few, labels)
        with torch.enable_grad():
            value = self.batch(z.clone().requires_grad_(), y)
        if not value.requires_grad:
            raise ModelError(
                f"the loss {self.name} gives a number without a gradient: compute it from the outputs by operations of PyTorch, without "
                "detach(), item() or NumPy"
            )
        if self.reduction is None:
            self.reduction = self.find_reduction(z, y)

    def find_type(self, outputs: NDArray[np.float64], targets: NDArray[Any] | None) -> None:
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
            shapes = f"outputs of shape {[len(outputs), *self.shape]}"
            if targets is not None:
                shapes += f" and targets of {targets.dtype} and shape {list(targets.shape)}"
            raise ModelError(f"the loss {self.name} fails on {shapes}: {first}") from first

    def find_reduction(self, z: torch.Tensor, y: torch.Tensor | None) -> str:
        """Compares the loss of a batch with those of its samples."""
        if len(z) == 1:
            return "sum"  # which is the mean, too
        tolerance = 1e-9 if self.real is torch.float64 else 1e-4
        generator = torch.Generator().manual_seed(0)
        for attempt in range(3):
            if attempt:  # losses that are 0 tell nothing
                z = z + torch.randn(z.shape, generator=generator, dtype=z.dtype)
            with torch.no_grad():
                whole, again = float(self.batch(z, y)), float(self.batch(z, y))
                each = np.array([float(self.one(z[n], None if y is None else y[n])) for n in range(len(z))])
            scale = float(np.abs(each).sum())
            if abs(whole - again) > tolerance * scale:
                raise ModelError(f"the loss {self.name} gives {whole} and then {again} for the same batch: it must not draw at random")
            if not np.isfinite(scale) or scale == 0.0:
                continue
            is_sum, is_mean = (abs(whole - total) <= tolerance * scale for total in (each.sum(), each.mean()))
            if is_sum != is_mean:
                return "sum" if is_sum else "mean"
            if not is_sum:
                raise ModelError(
                    f"the loss {self.name} is neither the mean nor the sum over samples: {len(z)} samples have the loss {whole:.6g} "
                    f"together, and {each.sum():.6g} in sum; a Hessian is a sum over samples, so write it as such, or say what it is "
                    "meant to be by reduction='mean' or 'sum'"
                )
        raise ModelError(
            f"whether the loss {self.name} is the mean or the sum over samples could not be found out from the first {len(z)} samples: "
            "say so by reduction='mean' or 'sum'"
        )
