"""Outputs, loss and gradient of a module as PyTorch computes them, for the comparison with its network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from ._check import Own, weights
from ._torch_module import clean, eager, evaluation

# Bytes that a copy of a module in double precision may have.
COPY = 1 << 31


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


def fits(module: torch.nn.Module) -> bool:
    """Whether a copy of a module in double precision is small enough."""
    return 8 * sum(tensor.numel() for tensor in [*module.parameters(), *module.buffers()]) <= COPY
