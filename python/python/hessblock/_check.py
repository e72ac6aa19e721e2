"""The comparison of a network with the function that it was taken from: outputs, loss and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from . import _data_files as files
from ._errors import CheckError
from ._frontend import CallableLoss, Data
from ._lazy import Bounds
from ._text import listed

# Samples that are compared.
COMPARED = 8
# Least relative differences that count, for devices of single and double precision. Constants in the graph of a model of
# single precision are rounded to it, such as the epsilon of a norm.
TOLERANCE = {"f32": 2e-3, "f64": 1e-5}
# The same for what a model computes in half precision.
HALF = 0.1
# Times the difference between the model's own single and double precision that the library may differ.
SLACK = 20


@dataclass
class Own:
    """The numbers that the model's own library computes."""

    outputs: NDArray[np.float64]
    """[n, …]"""
    loss: float | None
    """None where the gradient is that of the outputs' sum, each times its number of `weights`."""
    gradient: dict[str, NDArray[np.float64]]
    """By parameter; zero where the loss does not depend on it."""


def weights(count: int) -> NDArray[np.float64]:
    """Returns fixed numbers between −1 and 1."""
    return np.cos(1.0 + np.arange(count, dtype=np.float64))


def first(source: NDArray[Any] | str, samples: Bounds) -> NDArray[Any]:
    """Returns those of a range of samples that are compared."""
    start, stop = samples
    return files.take(source, start, min(start + COMPARED, stop))


def of_network(
    session: _core.Session, data: Data, loss: _core.Loss | CallableLoss, samples: Bounds, weighted: bool
) -> tuple[Any, float, Any]:
    """Computes outputs [n, C], loss and flat gradient of the first of a range of samples by the library.

    Where `weighted`, the gradient is that of the outputs' sum, each times its number of `weights`.
    """
    inputs: list[tuple[str | None, Any]] = [(name, first(source, samples)) for name, source in data.inputs]
    targets: Any = None if data.targets is None else first(data.targets, samples)
    outputs = _core.outputs(session.network, inputs, session.device)
    if weighted:
        rows, count = outputs.shape
        slopes = weights(rows * count).reshape(rows, count)
        given = _core.Loss.given(slopes, np.zeros(rows))
        hessians = np.zeros((rows, count, count))
        gradient, value, _ = _core.Session(session.network, inputs, hessians, given, session.device).gradient()
        return outputs, value, gradient
    if not isinstance(loss, _core.Loss):
        values, slopes, targets = loss.derivatives(outputs, targets)
        loss = _core.Loss.given(slopes, values)
    gradient, value, _ = _core.Session(session.network, inputs, targets, loss, session.device).gradient()
    return outputs, value, gradient


def compare(
    name: str,
    kind: str,
    session: _core.Session,
    ours: tuple[Any, float, Any],
    exact: Own | None,
    rough: Callable[[], Own] | None = None,
    *,
    half: bool = False,
    padding: Sequence[tuple[str, int]] = (),
    hint: str = "",
) -> None:
    """Compares the library's numbers with the model's own in double precision.

    Args:
        name: The name of the model.
        kind: The word for the model in messages: "module" or "function".
        session: The session of the model's network.
        ours: The library's outputs, loss and gradient.
        exact: The model's own; None where they are not there in double precision.
        rough: Computes those in the model's own precision, which stand for the exact ones where there are none.
        half: Whether that is half precision.
        padding: Parameters with a row whose gradient the model leaves at zero.
        hint: What may be the reason for a difference.

    Raises:
        CheckError: They differ; the message says where and by how much.
    """
    precision = session.device.precision
    tolerance, spread = TOLERANCE[precision], None
    if exact is None:
        assert rough is not None
        exact, tolerance = rough(), max(tolerance, HALF if half else TOLERANCE["f32"])
    elif rough is not None and precision == "f32":
        # What single precision costs the model itself, it may cost the library.
        spread = rough
    fault = difference(kind, session.network, ours, exact, None, tolerance, padding)
    if fault is not None and spread is not None:
        fault = difference(kind, session.network, ours, exact, spread(), tolerance, padding)
    if fault is not None:
        raise CheckError(
            f"hessblock's network of {name} differs from the {kind}: {fault} (at most {tolerance:.0e} is rounding){hint}; check=False "
            "takes it all the same"
        )


def difference(
    kind: str,
    network: _core.Network,
    ours: tuple[Any, float, Any],
    exact: Own,
    rough: Own | None,
    tolerance: float,
    padding: Sequence[tuple[str, int]],
) -> str | None:
    """Returns the first difference that is larger than the tolerance, or than many times that of `rough`; None if there is none."""
    outputs, loss, gradient = ours
    wanted = exact.outputs.reshape(-1)
    if outputs.size != wanted.size:
        return f"it has {outputs.size} outputs for {len(outputs)} samples, and the {kind} {wanted.size}"
    off = relative(outputs.reshape(-1), wanted)
    slack = 0.0 if rough is None else SLACK * relative(rough.outputs.reshape(-1), wanted)
    if not off <= max(tolerance, slack):
        return f"the outputs differ by {off:.2g} of their size"
    if exact.loss is not None and math.isfinite(exact.loss):
        scale = max(abs(exact.loss), 1e-3)
        off = abs(loss - exact.loss) / scale
        slack = 0.0 if rough is None or rough.loss is None else SLACK * abs(rough.loss - exact.loss) / scale
        if not off <= max(tolerance, slack):
            return f"the loss ({loss:.6g}, and {exact.loss:.6g} of the {kind}) differs by {off:.2g} of its size"
    largest = max((float(np.linalg.norm(part)) for part in exact.gradient.values()), default=0.0)
    found, worst = [], 0.0
    for parameter, _, shape, offset in network.parameters:
        whole = exact.gradient.get(parameter)
        if whole is None:
            continue
        size = int(np.prod(shape, dtype=np.int64))
        part = np.array(gradient[offset : offset + size]).reshape(shape)
        for padded, row in padding:
            if padded == parameter:
                part[row] = whole[row]
        scale = max(float(np.linalg.norm(whole)), 0.05 * largest)
        off = distance(part, whole, scale)
        slack = 0.0 if rough is None else SLACK * distance(rough.gradient[parameter], whole, scale)
        if not off <= max(tolerance, slack):
            found.append(parameter)
            worst = max(worst, off)
    return f"the gradient in {listed(found)} differs by {worst:.2g} of its size" if found else None


def relative(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Returns ‖found − wanted‖ / ‖wanted‖."""
    return distance(found, wanted, float(np.linalg.norm(wanted)))


def distance(found: NDArray[Any], wanted: NDArray[Any], scale: float) -> float:
    """Returns ‖found − wanted‖ / scale; 0 if both are zero."""
    off = float(np.linalg.norm(found - wanted))
    return off / scale if scale > 0 else (math.inf if off > 0 else 0.0)
