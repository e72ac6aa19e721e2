"""The comparison of a network with the function that it was taken from: outputs, loss and gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from . import _data_files as files
from ._errors import CheckError
from ._frontend import CallableLoss, Data

# Samples that are compared.
COMPARED = 8
# Least relative differences that count, for devices of single and double precision. Constants in the graph of a model of
# single precision are rounded to it, such as the epsilon of a norm.
TOLERANCE = {"f32": 2e-3, "f64": 1e-5}


@dataclass
class Own:
    """What the model's own library computes."""

    outputs: NDArray[np.float64]
    """[n, …]"""
    loss: float | None
    """None where the gradient is that of the outputs' sum, each times its number of `weights`."""
    gradient: dict[str, NDArray[np.float64]]
    """By parameter."""


def weights(count: int) -> NDArray[np.float64]:
    """Returns fixed numbers between −1 and 1."""
    return np.cos(1.0 + np.arange(count, dtype=np.float64))


def first(source: NDArray[Any] | str) -> NDArray[Any]:
    """Returns the samples that are compared."""
    return files.take(source, 0, COMPARED)


def of_network(session: _core.Session, data: Data, loss: _core.Loss | CallableLoss, weighted: bool) -> tuple[Any, float, Any]:
    """Computes outputs [n, C], loss and flat gradient of a few samples by the library.

    Where `weighted`, the gradient is that of the outputs' sum, each times its number of `weights`.
    """
    inputs: list[tuple[str | None, Any]] = [(name, first(source)) for name, source in data.inputs]
    targets: Any = None if data.targets is None else first(data.targets)
    outputs = _core.outputs(session.network, inputs, session.device)
    if weighted:
        samples, count = outputs.shape
        slopes = weights(samples * count).reshape(samples, count)
        given = _core.Loss.given(slopes, np.zeros(samples))
        hessians = np.zeros((samples, count, count))
        gradient, value, _ = _core.Session(session.network, inputs, hessians, given, session.device).gradient()
        return outputs, value, gradient
    if not isinstance(loss, _core.Loss):
        values, slopes, targets = loss.derivatives(outputs, targets)
        loss = _core.Loss.given(slopes, values)
    gradient, value, _ = _core.Session(session.network, inputs, targets, loss, session.device).gradient()
    return outputs, value, gradient


def compare(name: str, session: _core.Session, ours: tuple[Any, float, Any], exact: Own) -> None:
    """Compares the library's numbers with the model's own in double precision.

    Raises:
        CheckError: They differ; the message says where and by how much.
    """
    outputs, loss, gradient = ours
    tolerance = TOLERANCE[session.device.precision]

    def fault(what: str, off: float) -> CheckError:
        return CheckError(
            f"hessblock's network of {name} differs from the function: {what} by {off:.2g} of their size (at most "
            f"{tolerance:.0e} is rounding); check=False takes it all the same"
        )

    wanted = exact.outputs.reshape(-1)
    if outputs.size != wanted.size:
        raise CheckError(f"hessblock's network of {name} has {outputs.size} outputs for {len(outputs)} samples, and the function {wanted.size}")
    off = distance(outputs.reshape(-1), wanted, float(np.linalg.norm(wanted)))
    if not off <= tolerance:
        raise fault("the outputs differ", off)
    if exact.loss is not None and math.isfinite(exact.loss):
        off = abs(loss - exact.loss) / max(abs(exact.loss), 1e-3)
        if not off <= tolerance:
            raise fault(f"the loss ({loss:.6g}, and {exact.loss:.6g} of the function) differs", off)
    largest = max((float(np.linalg.norm(part)) for part in exact.gradient.values()), default=0.0)
    worst, rows = 0.0, []
    for parameter, _, shape, offset in session.network.parameters:
        whole = exact.gradient[parameter]
        part = np.asarray(gradient[offset : offset + whole.size]).reshape(shape)
        off = distance(part, whole, max(float(np.linalg.norm(whole)), 0.05 * largest))
        if not off <= tolerance:
            rows.append(parameter)
            worst = max(worst, off)
    if rows:
        raise fault(f"the gradient in {', '.join(rows[:5])}{' and others' if len(rows) > 5 else ''} differs", worst)


def distance(found: NDArray[Any], wanted: NDArray[Any], scale: float) -> float:
    """Returns ‖found − wanted‖ / scale; 0 if both are zero."""
    off = float(np.linalg.norm(found - wanted))
    return off / scale if scale > 0 else (math.inf if off > 0 else 0.0)
