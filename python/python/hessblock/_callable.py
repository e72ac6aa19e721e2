"""Losses that are functions of outputs and targets: the mean or the sum over samples, taken by their derivatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core, _spool
from . import _data_files as files
from ._errors import Error, ModelError

# Samples with which mean and sum are told apart.
TRIED = 8
# Bytes of Hessians that are computed at once.
CHUNK = 1 << 25
# Bytes of outputs up to which the loss of all samples is evaluated in one batch.
WHOLE = 1 << 30

Labels = NDArray[Any] | None
Derivatives = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


class FunctionLoss(ABC):
    """A loss `function(outputs, targets)`, or `function(outputs)` without targets: the mean or the sum over samples."""

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        reduction: str | None = None,
        limit: int = _spool.LIMIT,
        notes: list[str] | None = None,
    ) -> None:
        """`shape` is that of a sample's outputs. `notes` receives what a user should know."""
        self.name, self.shape, self.limit = name, shape, limit
        self.given, self.reduction = reduction, reduction
        """"mean" or "sum"; found at the first use with several samples if not given."""
        self.tolerance = 1e-9
        """The relative difference that is rounding."""
        self.notes = [] if notes is None else notes

    def __repr__(self) -> str:
        return f"{self.name}({self.reduction or 'reduction not found yet'})"

    @abstractmethod
    def value(self, outputs: NDArray[np.float64], targets: Labels) -> float:
        """Returns the loss of a batch, with outputs [n, C]."""

    @abstractmethod
    def piece(self, outputs: NDArray[np.float64], targets: Labels) -> tuple[Any, Any, Any]:
        """Returns values, gradients and Hessians of the samples' own losses, as anything that NumPy takes."""

    @abstractmethod
    def prepare(self, outputs: NDArray[np.float64], targets: Labels) -> None:
        """Tries the function on a few samples.

        Raises:
            ModelError: It fails, or cannot be differentiated.
        """

    def derivatives(self, outputs: NDArray[np.float64], targets: Labels | str) -> Derivatives:
        """Returns values [N], gradients [N, C] and Hessians [N, C, C] at outputs [N, C], with the reduction's weight in all three.

        Hessians that are larger than the limit lie in a temporary file.

        Raises:
            ModelError: The function is neither the mean nor the sum of the samples' losses, or cannot be differentiated.
        """
        samples, count = outputs.shape
        labels = None if targets is None else files.take(targets, 0, samples)
        few = outputs[:TRIED], None if labels is None else labels[:TRIED]
        self.prepare(*few)
        # The mean over one sample is the sum, too: the reduction is found when there are more.
        if self.reduction is None and samples > 1:
            self.reduction = self.find_reduction(*few)
        weight = self.weight(samples)
        values, gradients = np.empty(samples), np.empty((samples, count))
        hessians = _spool.empty((samples, count, count), np.float64, self.limit)
        step = max(1, min(samples, CHUNK // (8 * count * count)))
        for start in range(0, samples, step):
            part = slice(start, min(start + step, samples))
            pieces = self.piece(outputs[part], None if labels is None else labels[part])
            for whole, found in zip((values, gradients, hessians), pieces, strict=True):
                whole[part] = np.asarray(found).reshape(whole[part].shape)
                whole[part] *= weight
        if self.given is None and samples > 1:
            self.compare(outputs, labels, values)
        return values, gradients, hessians

    def weight(self, samples: int) -> float:
        """Returns the weight that the reduction gives each of so many samples, once it is known."""
        return 1.0 / samples if self.reduction == "mean" else 1.0

    def compare(self, outputs: NDArray[np.float64], targets: Labels, values: NDArray[np.float64]) -> None:
        """Compares the loss of all samples together with the sum of their own, `values` with the reduction's weight.

        Raises:
            ModelError: They differ: the first samples have a mean or a sum, and all of them have not.
        """
        whole = None
        if outputs.nbytes <= WHOLE:
            try:
                whole = self.value(outputs, targets)
            except Exception as error:
                if not out_of_memory(error):
                    raise self.failed(outputs, targets, error) from error
        if whole is None:
            note = (
                f"whether the loss {self.name} is the {self.reduction} over samples was found out from the first {TRIED} samples alone: "
                f"all {len(outputs)} are too many for one batch; say so by reduction='{self.reduction}'"
            )
            if note not in self.notes:
                self.notes.append(note)
            return
        scale = float(np.abs(values).sum())
        # A sum over many samples is rounded more often than one over a few.
        if np.isfinite(whole) and np.isfinite(scale) and not abs(whole - values.sum()) <= 1e3 * self.tolerance * scale:
            total = float(values.sum()) * (len(values) if self.reduction == "mean" else 1)
            raise self.mixes(len(values), whole, total)

    def find_reduction(self, outputs: NDArray[np.float64], targets: Labels) -> str:
        """Compares the loss of a batch with those of its samples.

        Raises:
            ModelError: It draws at random, or is neither their mean nor their sum.
        """
        count = len(outputs)
        random = np.random.default_rng(0)
        for attempt in range(3):
            if attempt:  # losses that are 0 tell nothing
                outputs = outputs + random.standard_normal(outputs.shape)
            whole, again = self.value(outputs, targets), self.value(outputs, targets)
            each = np.array([self.value(outputs[n : n + 1], None if targets is None else targets[n : n + 1]) for n in range(count)])
            scale = float(np.abs(each).sum())
            if abs(whole - again) > self.tolerance * scale:
                raise ModelError(f"the loss {self.name} gives {whole} and then {again} for the same batch: it must not draw at random")
            if not np.isfinite(scale) or scale == 0.0:
                continue
            is_sum, is_mean = (abs(whole - total) <= self.tolerance * scale for total in (each.sum(), each.mean()))
            if is_sum != is_mean:
                return "sum" if is_sum else "mean"
            if not is_sum:
                raise self.mixes(count, whole, float(each.sum()))
        raise ModelError(
            f"whether the loss {self.name} is the mean or the sum over samples could not be found out from the first {count} samples: "
            "say so by reduction='mean' or 'sum'"
        )

    def mixes(self, count: int, whole: float, total: float) -> ModelError:
        """Returns the exception for a loss that is no mean and no sum."""
        return ModelError(
            f"the loss {self.name} is neither the mean nor the sum over samples: {count} samples have the loss {whole:.6g} "
            f"together, and {total:.6g} in sum; a Hessian is a sum over samples, so write it as such, or say what it is "
            "meant to be by reduction='mean' or 'sum'"
        )

    def failed(self, outputs: NDArray[np.float64], targets: Labels, error: BaseException) -> ModelError:
        """Returns the exception for a function that raises one."""
        shapes = f"outputs of shape {[len(outputs), *self.shape]}"
        if targets is not None:
            shapes += f" and targets of {targets.dtype} and shape {list(targets.shape)}"
        return error if isinstance(error, ModelError) else ModelError(f"the loss {self.name} fails on {shapes}: {error}")


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception of NumPy, PyTorch or JAX says that memory is lacking."""
    signs = ("can't allocate memory", "not enough memory", "out of memory", "RESOURCE_EXHAUSTED")
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or any(sign in str(error) for sign in signs)


def known_name(given: str) -> str:
    """Returns the library's name of a loss for any of its names, such as "cross-entropy" for "ce"; another text as it is."""
    try:
        return _core.Loss.parse(given).name.partition("(")[0]
    except Error:
        return given
