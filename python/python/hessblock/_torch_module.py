"""The parts of a `torch.nn.Module`: its weights by name, and the modules that cannot be taken as they are."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ._errors import ModelError, UnsupportedError
from ._text import listed

# Number types that go over as they are, and those that are converted first.
DIRECT = {torch.float32, torch.float64, torch.int64, torch.int32, torch.bool}
CONVERTED = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.int8: torch.int32,
    torch.int16: torch.int32,
    torch.uint8: torch.int32,
}
HALVES = (torch.float16, torch.bfloat16)
# The components that torch.compile puts into names.
COMPILED = "_orig_mod"


def clean(name: str) -> str:
    """Returns a name without the components that torch.compile puts into it."""
    return ".".join(part for part in name.split(".") if part != COMPILED)


def unwrap(module: Any) -> tuple[nn.Module, list[str]]:
    """Returns the module inside the wrappers of torch.compile and of data parallelism, and notes for the user.

    Raises:
        ModelError: It is no module in eager form.
    """
    notes: list[str] = []
    while True:
        kind = type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"{kind} is a TorchScript module, which keeps no Python code to export: pass the nn.Module that it was made from"
            )
        if not isinstance(module, nn.Module):
            raise ModelError(f"a model is a torch.nn.Module, and this is {kind}: wrap a function in a module that holds its weights")
        if kind == "OptimizedModule" and hasattr(module, COMPILED):
            module = getattr(module, COMPILED)
        elif isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
            notes.append(f"{kind} was unwrapped: names of parameters begin without 'module.'")
        elif kind in ("FullyShardedDataParallel", "PipelineStage"):
            raise ModelError(f"{kind} holds only a part of the weights in each process: gather them and pass the module itself")
        else:
            return module, notes


@dataclass
class Weights:
    """The tensors of a module by name, without those of `torch.compile` in the names."""

    parameters: dict[str, torch.Tensor] = field(default_factory=dict)
    """All of `named_parameters()`, in its order."""
    buffers: dict[str, torch.Tensor] = field(default_factory=dict)
    """All of `named_buffers()`."""
    tied: dict[str, str] = field(default_factory=dict)
    """The other names of a tensor that has several: name -> first name."""

    @property
    def differentiated(self) -> list[str]:
        """The names of the parameters that require a gradient, in the flat order."""
        return [name for name, tensor in self.parameters.items() if tensor.requires_grad]

    def get(self, name: str) -> torch.Tensor | None:
        """Returns the tensor of a first name, if there is one."""
        return self.parameters.get(name, self.buffers.get(name))


def weights(module: nn.Module) -> Weights:
    """Collects the tensors of a module as they are now.

    Raises:
        ModelError: Two tensors have one name.
    """
    found, first = Weights(), dict[int, str]()
    named = [(found.parameters, module.named_parameters(remove_duplicate=False)),
             (found.buffers, module.named_buffers(remove_duplicate=False))]  # fmt: skip
    for place, tensors in named:
        for full, tensor in tensors:
            name, known = clean(full), first.setdefault(id(tensor), clean(full))
            held = found.get(name)
            if held is not None and held is not tensor:
                raise ModelError(f"two tensors of the module have the name {name!r} (one as {full!r}): rename one of them")
            if known == name:
                place[name] = tensor
            else:
                found.tied[name] = known
    return found


def check_weights(name: str, held: Weights) -> None:
    """Refuses weights that have no values or no real ones.

    Raises:
        ModelError: Tensors have no values, are sharded or sparse, or no parameter requires a gradient.
        UnsupportedError: There are number types that are not taken.
    """
    everything = {**held.parameters, **held.buffers}
    groups: dict[str, list[str]] = {}
    for key, tensor in everything.items():
        kind = type(tensor).__name__
        if isinstance(tensor, (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)):
            groups.setdefault("lazy", []).append(key)
        elif kind in ("DTensor", "ShardedTensor", "FlatParameter"):
            groups.setdefault("sharded", []).append(key)
        elif tensor.device.type == "meta":
            groups.setdefault("meta", []).append(key)
        elif tensor.layout is not torch.strided:
            groups.setdefault("sparse", []).append(f"{key} ({tensor.layout})")
        elif key in held.parameters and tensor.dtype not in DIRECT and tensor.dtype not in CONVERTED:
            groups.setdefault("type", []).append(f"{key} ({str(tensor.dtype).removeprefix('torch.')})")
    reasons = {
        "lazy": "are not initialised yet: run one batch through the module first",
        "sharded": "are sharded over processes: gather them first",
        "meta": "are on the meta device and have no values: load them first (module.to_empty and load_state_dict)",
        "sparse": "are not strided: convert them by to_dense()",
    }
    for reason, text in reasons.items():
        if reason in groups:
            raise ModelError(f"weights of {name} {text}: {listed(groups[reason])}")
    if "type" in groups:
        raise UnsupportedError(
            f"weights of {name} have number types that hessblock does not take (float64, float32, float16, bfloat16 and integers "
            f"are taken): {listed(groups['type'])}",
            nodes=groups["type"],
        )
    if not held.differentiated:
        raise ModelError(f"no parameter of {name} has requires_grad=True: there is nothing to differentiate")


def training_matters(module: nn.Module) -> bool:
    """Whether a module itself (not its children) computes something else in training mode."""
    kind = type(module).__name__
    if isinstance(module, nn.modules.batchnorm._NormBase):
        # InstanceNorm without running statistics takes those of the sample in both modes.
        return isinstance(module, nn.modules.batchnorm._BatchNorm) or module.track_running_stats
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return module.dropout > 0
    # The parametrisation of spectral_norm moves its vectors by a step of the power method.
    return isinstance(module, nn.RReLU) or kind in ("_SpectralNorm", "StochasticDepth", "DropPath")


def check_layers(module: nn.Module) -> None:
    """Refuses layers in training mode, and those that mix samples or draw at random in any mode.

    Raises:
        ModelError: There are such layers; the message names them.
    """
    label = type(module).__name__
    each = [(clean(name) or "the module itself", part) for name, part in module.named_modules()]
    training = [f"{name} ({type(part).__name__})" for name, part in each if part.training and training_matters(part)]
    if training:
        raise ModelError(
            f"{label} is in training mode, where these layers draw at random or mix the samples of a batch: {listed(training)}; "
            "call model.eval() first"
        )
    mixing = [f"{name} ({type(part).__name__})" for name, part in each
              if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None]  # fmt: skip
    if mixing:
        raise ModelError(
            f"these layers of {label} have no running statistics, so that they mix the samples of a batch in evaluation too: "
            f"{listed(mixing)}; give them track_running_stats=True, or use group or layer norm"
        )


def padding_rows(module: nn.Module) -> list[tuple[str, int]]:
    """Returns (name of a weight, row) of embeddings whose `padding_idx` row gets no gradient in PyTorch."""
    found = []
    for name, part in module.named_modules():
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag)) and part.padding_idx is not None and part.weight.requires_grad:
            found.append((clean(f"{name}.weight" if name else "weight"), part.padding_idx))
    return found


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """A block in which a module and all its parts are in evaluation mode."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def eager() -> Iterator[None]:
    """A block in which what `torch.compile` made runs as it was written."""
    # Nothing is compiled where dynamo is not loaded yet; loading it takes 0.7 s.
    with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext():
        yield


def host_array(tensor: torch.Tensor) -> NDArray[Any]:
    """Returns a tensor's values: a view of a CPU tensor in a type that goes over as it is, else a copy on the host."""
    tensor = tensor.detach()
    if tensor.dtype in CONVERTED:
        tensor = tensor.to(CONVERTED[tensor.dtype])
    array: NDArray[Any] = tensor.resolve_conj().resolve_neg().cpu().numpy()
    return array


def stand_in(module: nn.Module) -> nn.Module:
    """Returns a copy of a module on the host in single precision whose parameters and buffers hold no values.

    The memory of its tensors is reserved and never touched, so that a copy costs no more than its Python objects.

    Raises:
        ModelError: The module cannot be copied.
    """
    memo: dict[int, Any] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        empty = torch.empty(tensor.shape, dtype=_float(tensor.dtype), device="cpu")
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = empty
    return moved(module, memo, lambda tensor: tensor.to("cpu", _float(tensor.dtype)))


def double(module: nn.Module) -> nn.Module:
    """Returns a copy of a module on the host in double precision.

    Raises:
        ModelError: The module cannot be copied.
    """

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to("cpu", torch.float64 if tensor.is_floating_point() else tensor.dtype)

    memo: dict[int, Any] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        made = convert(tensor.detach()).clone()
        memo[id(tensor)] = nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made
    return moved(module, memo, convert)


def moved(module: nn.Module, memo: dict[int, Any], convert: Any) -> nn.Module:
    """Copies a module, with `memo` in place of its parameters and buffers and `convert` applied to its other tensors."""
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor):
                memo.setdefault(id(value), convert(value.detach()))
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        raise ModelError(
            f"{type(module).__name__} cannot be copied ({type(error).__name__}: {error}): pass it on the CPU in single precision"
        ) from error


def _float(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in HALVES else dtype


def float_type(held: Weights) -> np.dtype[Any]:
    """Returns the type of a module's floating-point inputs on the host: that of its first floating-point parameter."""
    for tensor in held.parameters.values():
        if tensor.is_floating_point():
            return np.dtype(np.float64 if tensor.dtype == torch.float64 else np.float32)
    return np.dtype(np.float32)
