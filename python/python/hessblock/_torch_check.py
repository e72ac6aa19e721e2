"""The comparison of a network with the module that it was taken from: outputs, loss and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from . import _core
from . import _data_files as files
from ._errors import CheckError
from ._frontend import CallableLoss, Data
from ._torch_module import clean, eager, evaluation, listed

# Samples that are compared.
COMPARED = 8
# Least relative differences that count, for devices of single and double precision. Constants in the graph of a module of single
# precision are rounded to it, such as the epsilon of a norm.
TOLERANCE = {"f32": 2e-3, "f64": 1e-5}
# The same for what PyTorch computes in half precision.
HALF = 0.1
# Times the difference between PyTorch's single and double precision that the library may differ.
SLACK = 20
# Bytes that a copy of a module in double precision may have.
COPY = 1 << 31


@dataclass
class Own:
    """What PyTorch computes."""

    outputs: NDArray[np.float64]
    """[N, C]"""
    loss: float | None
    gradient: dict[str, NDArray[np.float64]]
    """By parameter; zero where the loss does not depend on it."""


def own(module: torch.nn.Module, call: Any, chosen: int, loss: Callable[..., torch.Tensor] | None, targets: NDArray[Any] | None) -> Own:
    """Computes outputs, loss and gradient of a module for the arguments `call`.

    Without a loss, the gradient is that of the sum of all outputs, each times its entry of `weights`.
    """
    real = torch.get_default_dtype()
    leaves = {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}
    for tensor in leaves.values():
        real = tensor.dtype
    with evaluation(module), torch.enable_grad(), eager():
        returned = pytree.tree_leaves(module(*call[0], **call[1]))
        outputs = [leaf for leaf in returned if isinstance(leaf, torch.Tensor)][chosen]
        if loss is None:
            value = (outputs.reshape(-1) * torch.from_numpy(weights(outputs.numel())).to(outputs)).sum()
        elif targets is None:
            value = loss(outputs)
        else:
            labels = torch.from_numpy(np.array(targets)).to(outputs.device)
            value = loss(outputs, labels.to(real) if labels.is_floating_point() else labels)
        parts: Any = [None] * len(leaves)
        if value.requires_grad:
            parts = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    made = {
        clean(name): np.zeros(tensor.shape) if part is None else part.detach().double().cpu().numpy()
        for (name, tensor), part in zip(leaves.items(), parts, strict=True)
    }
    flat = outputs.detach().double().cpu().numpy()
    return Own(flat, None if loss is None else float(value.detach()), made)


def weights(count: int) -> NDArray[np.float64]:
    """Returns fixed numbers between −1 and 1."""
    return np.cos(1.0 + np.arange(count, dtype=np.float64))


def of_network(
    network: _core.Network, device: _core.Device, data: Data, loss: _core.Loss | CallableLoss, weighted: bool
) -> tuple[Any, float, Any]:
    """Computes outputs [N, C], loss and flat gradient of a few samples by the library."""
    inputs: list[tuple[str | None, Any]] = [(name, first(source)) for name, source in data.inputs]
    targets: Any = None if data.targets is None else first(data.targets)
    outputs = _core.outputs(network, inputs, device)
    if weighted:
        samples, count = outputs.shape
        slopes = weights(samples * count).reshape(samples, count)
        hessians = np.zeros((samples, count, count))
        given = _core.Loss.given(slopes, np.zeros(samples))
        gradient, value, _ = _core.Session(network, inputs, hessians, given, device).gradient()
        return outputs, value, gradient
    if isinstance(loss, CallableLoss) and not isinstance(loss, _core.Loss):
        values, slopes, targets = loss.derivatives(outputs, targets)
        loss = _core.Loss.given(slopes, values)
    gradient, value, _ = _core.Session(network, inputs, targets, loss, device).gradient()
    return outputs, value, gradient


def fits(module: torch.nn.Module) -> bool:
    """Whether a copy of a module in double precision is small enough."""
    return 8 * sum(tensor.numel() for tensor in [*module.parameters(), *module.buffers()]) <= COPY


def first(source: NDArray[Any] | str) -> NDArray[Any]:
    """Returns the samples that are compared."""
    return files.take(source, 0, COMPARED)


def compare(
    name: str,
    network: _core.Network,
    precision: str,
    ours: tuple[Any, float, Any],
    exact: Own | None,
    rough: Callable[[], Own],
    *,
    half: bool,
    padding: list[tuple[str, int]],
    hint: str,
) -> None:
    """Compares the library's numbers with those of PyTorch in double precision.

    `rough` computes those in the module's own precision, which stand for them where there are none. `half` says that this is half
    precision.

    # Errors
    `CheckError` saying what differs, and by how much.
    """
    tolerance = TOLERANCE[precision]
    if exact is None:
        exact, tolerance = rough(), max(tolerance, HALF if half else TOLERANCE["f32"])
        fault = difference(network, ours, exact, None, tolerance, padding)
    else:
        fault = difference(network, ours, exact, None, tolerance, padding)
        if fault is not None and precision == "f32":
            # What single precision costs PyTorch itself, it may cost the library.
            fault = difference(network, ours, exact, rough(), tolerance, padding)
    if fault is not None:
        raise CheckError(
            f"hessblock's network of {name} differs from the module: {fault} (at most {tolerance:.0e} is rounding){hint}; check=False "
            "takes it all the same"
        )


def difference(
    network: _core.Network, ours: tuple[Any, float, Any], exact: Own, rough: Own | None, tolerance: float, padding: list[tuple[str, int]]
) -> str | None:
    """Returns the first difference that is larger than the tolerance, or than many times that of `rough`; None if there is none."""
    outputs, loss, gradient = ours
    wanted = exact.outputs.reshape(-1)
    if outputs.size != wanted.size:
        return f"it has {outputs.size} outputs for {len(outputs)} samples, and the module {wanted.size}"
    off = relative(outputs.reshape(-1), wanted)
    slack = 0.0 if rough is None else SLACK * relative(rough.outputs.reshape(-1), wanted)
    if not off <= max(tolerance, slack):
        return f"the outputs differ by {off:.2g} of their size"
    if exact.loss is not None and math.isfinite(exact.loss):
        scale = max(abs(exact.loss), 1e-3)
        off = abs(loss - exact.loss) / scale
        slack = 0.0 if rough is None or rough.loss is None else SLACK * abs(rough.loss - exact.loss) / scale
        if not off <= max(tolerance, slack):
            return f"the loss ({loss:.6g}, and {exact.loss:.6g} of the module) differs by {off:.2g} of its size"
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
