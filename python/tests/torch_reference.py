"""What PyTorch computes itself, in double precision: the reference of the tests of modules.

Everything comes from `functional_call` and automatic differentiation, reverse over reverse: forward over reverse is wrong through
`layer_norm` in torch 2.15. So are second derivatives of `_weight_norm` (finite differences tell), which is written out here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

CHUNK = 128


@dataclass
class Reference:
    """Loss, gradient, Jacobian of the outputs, G and H in the flat order of `named_parameters()`."""

    loss: float
    outputs: NDArray[np.float64]
    gradient: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    ggn: NDArray[np.float64]
    hessian: NDArray[np.float64]
    ranges: dict[str, slice]
    """Flat entries of every parameter."""

    def of(self, layer: str) -> NDArray[np.int64]:
        """Flat entries of all parameters whose names begin with `layer.`, or of the parameter of that name."""
        found = [np.arange(r.start, r.stop) for name, r in self.ranges.items() if name == layer or name.rpartition(".")[0] == layer]
        return np.concatenate(found)


def weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int) -> torch.Tensor:
    """g v / ‖v‖ with the norm over all axes but `dim`."""
    return g * v / v.pow(2).sum([axis for axis in range(v.ndim) if axis != dim], keepdim=True).sqrt()


def reference(module: nn.Module, inputs: Any, targets: Any, loss: Callable[..., torch.Tensor]) -> Reference:
    """Computes everything for a module in double precision; `inputs` is a tensor, a tuple of arguments or a dictionary of them."""
    named = {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}
    sizes = [tensor.numel() for tensor in named.values()]
    starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    ranges = {name: slice(start, start + size) for name, start, size in zip(named, starts, sizes, strict=False)}
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in named.values()])
    assert flat.dtype == torch.float64

    def outputs(values: torch.Tensor) -> torch.Tensor:
        own = {name: part.view(named[name].shape) for name, part in zip(named, values.split(sizes), strict=True)}
        arguments = inputs if isinstance(inputs, tuple) else () if isinstance(inputs, dict) else (inputs,)
        keywords = inputs if isinstance(inputs, dict) else {}
        made: torch.Tensor = torch.func.functional_call(module, own, arguments, keywords)
        return made

    def of_outputs(z: torch.Tensor) -> torch.Tensor:
        return loss(z) if targets is None else loss(z, targets)

    def whole(values: torch.Tensor) -> torch.Tensor:
        return of_outputs(outputs(values))

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # The other kernels have no second derivatives.
        with sdpa_kernel(SDPBackend.MATH), mock.patch.object(torch, "_weight_norm", weight_norm):
            gradient, value = torch.func.grad_and_value(whole)(flat)
            hessian = torch.func.jacrev(torch.func.grad(whole), chunk_size=CHUNK)(flat)
            z = outputs(flat).detach()
            jacobian = torch.func.jacrev(outputs, chunk_size=CHUNK)(flat).reshape(z.numel(), -1)
            inner = torch.func.jacrev(torch.func.grad(of_outputs), chunk_size=CHUNK)(z).reshape(z.numel(), z.numel())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    close(hessian, hessian.T.detach(), 1e-10)
    ggn = jacobian.T @ inner @ jacobian
    arrays = [tensor.detach().numpy() for tensor in (z, gradient, jacobian, ggn, hessian)]
    return Reference(float(value), *arrays, ranges)


def settled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Makes a module fit for tests: in double precision and evaluation mode, no parameter at its symmetric start, running statistics
    of their own, and epsilons as ONNX stores them, in single precision."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for tensor in module.parameters():
            tensor += 0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        for part in module.modules():
            if isinstance(getattr(part, "eps", None), float):
                part.eps = float(np.float32(part.eps))
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean += 0.3 * torch.randn(part.running_mean.shape, generator=generator, dtype=torch.float64)
                part.running_var *= 1 + torch.rand(part.running_var.shape, generator=generator, dtype=torch.float64)
    return module


def close(found: Any, wanted: Any, tolerance: float = 1e-9) -> None:
    """Asserts that arrays agree relative to their largest entry."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    scale = np.abs(wanted).max(initial=0.0)
    off = np.abs(found - wanted).max(initial=0.0)
    assert off <= tolerance * max(scale, 1e-3), f"off by {off:.2e}, the largest entry is {scale:.2e}"
