"""Sessions of the compiled module: a network with its data, loss and device, for the weights as they are now."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._errors import InvalidValueError, RequestError
from ._frontend import CallableLoss, Data
from ._lazy import Bounds
from ._progress import Progress, reporting


class Sessions:
    """The sessions of a problem. A callable loss is evaluated anew when the weights have changed and it is needed."""

    def __init__(
        self,
        network: _core.Network,
        data: Data,
        loss: _core.Loss | CallableLoss,
        device: _core.Device,
        *,
        samples: Bounds | None,
        progress: Progress,
        budget: dict[str, Any],
    ) -> None:
        self._data, self._loss, self._device = data, loss, device
        self._range, self._progress, self._budget = samples, progress, budget
        self._targets = data.targets
        self._lock = threading.RLock()
        self.network = network
        """The network with the weights as they are now."""
        self.version = 0
        """The number of changes of the weights."""
        self._made, self._stale = self._make(samples), False

    @property
    def samples(self) -> int:
        """The number of samples that the loss is taken over."""
        return self._made.samples

    @property
    def bounds(self) -> Bounds:
        """The range of the data's samples that the loss is taken over."""
        start = 0 if self._range is None else self._range[0]
        return start, start + self.samples

    @property
    def known(self) -> bool:
        """Whether the loss is one of the library's own."""
        return isinstance(self._loss, _core.Loss)

    def current(self) -> _core.Session:
        """Returns the session of the weights as they are now."""
        with self._lock:
            if self._stale:
                given, hessians = self._given(self._loss, self._made.outputs())
                self._made, self._stale = self._made.with_given(given, hessians), False
            return self._made

    def first(self, samples: int) -> _core.Session:
        """Returns a session over the first samples of those that the problem has.

        Raises:
            RequestError: The loss is a callable.
        """
        if samples >= self.samples:
            return self.current()
        if not self.known:
            raise RequestError("a callable loss is known at all samples of its problem together: give samples= to the problem")
        start = self.bounds[0]
        return self._make((start, start + samples))

    def replace(self, network: _core.Network) -> None:
        """Takes other weights."""
        with self._lock:
            self._made = self._made.with_network(network)
            self.network, self._stale = network, not self.known
            self.version += 1

    def _make(self, samples: Bounds | None) -> _core.Session:
        data, loss = self._data, self._loss
        if isinstance(loss, _core.Loss):
            return _core.Session(self.network, data.inputs, data.targets, loss, self._device, samples=samples, **self._budget)
        inputs = data.inputs
        if samples is not None:
            # The derivatives hold the reduction's weight, which is that of these samples alone.
            from ._data_files import take

            inputs = [(name, take(values, *samples)) for name, values in inputs]
            self._targets = None if data.targets is None else take(data.targets, *samples)
        with reporting(self._progress, "outputs") as report:
            outputs = _core.outputs(self.network, inputs, self._device, progress=report)
        given, hessians = self._given(loss, outputs)
        return _core.Session(self.network, inputs, hessians, given, self._device, **self._budget)

    def _given(self, loss: Any, outputs: NDArray[np.float64]) -> tuple[_core.Loss, NDArray[np.float64]]:
        """Returns a callable loss at the outputs as its derivatives, and the Hessians that stand for targets."""
        values, gradients, hessians = self.derivatives(loss, outputs)
        weight = getattr(loss, "weight", None)
        return _core.Loss.given(gradients, values, 1.0 if weight is None else weight(len(outputs))), hessians

    def derivatives(
        self, loss: Any, outputs: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Returns values [N], gradients [N, C] and Hessians [N, C, C] of a callable loss at the outputs.

        Raises:
            InvalidValueError: One of them is NaN or infinite, which is refused by default.
        """
        targets = self._targets
        if isinstance(targets, str):
            from ._data_files import samples, take

            targets = take(targets, 0, samples(targets))
        values, gradients, hessians = loss.derivatives(outputs, targets)
        if not self._budget.get("allow_non_finite"):
            for what, found in (("value", values), ("gradient", gradients), ("Hessian", hessians)):
                bad = first_not_finite(found)
                if bad is not None:
                    sample = bad + (0 if self._range is None else self._range[0])
                    raise InvalidValueError(
                        f"the loss {loss.name} has a {what} that is not finite at sample {sample}: write it so that it is finite there, "
                        "or give allow_non_finite=True"
                    )
        return values, gradients, hessians


def first_not_finite(array: NDArray[np.float64]) -> int | None:
    """Returns the first index on the first axis with a number that is NaN or infinite; None if there is none."""
    for start in range(0, len(array), 1024):
        finite = np.isfinite(array[start : start + 1024]).reshape(len(array[start : start + 1024]), -1).all(axis=1)
        if not finite.all():
            return start + int(np.argmin(finite))
    return None


def sample_range(samples: int | Sequence[int] | slice | None, count: int) -> Bounds | None:
    """Returns the range of samples that a user means, of `count`; None for all.

    Raises:
        RequestError: The range is empty or has a step.
    """
    if samples is None:
        return None
    if isinstance(samples, slice):
        start, stop, step = samples.indices(count)
    elif isinstance(samples, range):
        start, stop, step = samples.start, samples.stop, samples.step
    elif isinstance(samples, (int, np.integer)):
        start, stop, step = 0, int(samples), 1
    else:
        (start, stop), step = (int(bound) for bound in samples), 1
    if step != 1 or not 0 <= start < stop:
        raise RequestError(f"samples={samples!r}: give a number of samples, or (start, stop) with start below stop")
    return start, stop
