"""The form in which models, data and losses of other libraries reach the compiled module."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._errors import ModelError, RequestError
from ._lazy import Bounds


@dataclass(frozen=True)
class Graph:
    """A model as a graph without weights."""

    proto: bytes
    """The bytes of the ONNX model, whose initializers are inputs of the graph."""
    parameters: list[str]
    """The differentiated parameters in the flat order (that of `named_parameters()`; path order in a JAX tree)."""
    aliases: dict[str, str]
    """The names in `arrays()` of tensors that have other names in the graph."""
    output: str | None = None
    """The output to take, where the graph has several."""


@dataclass
class Data:
    """The arrays of a data set, or paths of them."""

    inputs: list[tuple[str | None, NDArray[Any] | str]]
    """The inputs by name; a single input may have none."""
    targets: NDArray[Any] | str | None
    samples: int
    """The number of samples; 0 if only opening a file would tell."""


@runtime_checkable
class CallableLoss(Protocol):
    """A loss that the library does not know, with its derivatives at the outputs."""

    name: str

    def derivatives(
        self, outputs: NDArray[np.float64], targets: NDArray[Any] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Returns values [N], gradients [N, C] and Hessians [N, C, C], with the reduction's weight in all three."""
        ...


class Frontend(Protocol):
    """A model of another library, whose weights may change.

    A frontend may also have a method `flatten(values)`, which is looked for by name: it returns new weights by parameter
    for a tree of the model's own, and anything else as it is.
    """

    name: str
    """The name of the model in messages, such as `LeNet5`."""
    notes: list[str]
    """The facts that a user should know, such as a copy from a GPU to the host."""

    def graph(self) -> Graph:
        """Returns the exported graph. The export runs once."""
        ...

    def arrays(self) -> list[tuple[str, NDArray[Any]]]:
        """Returns all weights and buffers as they are now, as views where possible."""
        ...

    def data(self, data: Any) -> Data:
        """Returns the arrays of what a user gave as data."""
        ...

    def loss(self, loss: Any) -> _core.Loss | CallableLoss:
        """Returns the library's loss for what a user gave as loss."""
        ...

    def check(self, session: _core.Session, data: Data, loss: _core.Loss | CallableLoss, samples: Bounds) -> None:
        """Raises CheckError where outputs, loss or gradient of the first of `samples` differ from those of the model itself."""
        ...


@dataclass(frozen=True)
class NetworkOptions:
    """The choices of a user about the network."""

    constant: tuple[str, ...] = ()
    trainable: tuple[str, ...] = ()
    tie: tuple[str, ...] = ()
    untie: tuple[str, ...] = ()
    weights: str | None = None
    dimensions: dict[str, int] = field(default_factory=dict)


class OnnxFrontend:
    """An ONNX model: a path, or the bytes of a file."""

    def __init__(
        self, model: str | os.PathLike[str] | bytes, *, output: str | int | None = None, reduction: str | None = None
    ) -> None:
        if isinstance(output, int):
            raise RequestError(f"output={output}: give the name of an output of the file")
        self.notes: list[str] = []
        self._output, self._reduction = output, reduction
        self._model: str | bytes
        if isinstance(model, bytes):
            self._model, self.name = model, "ONNX"
        else:
            self._model = os.fspath(model)
            # A file is often called `model.onnx`, in a folder that says of what.
            folder, name = os.path.split(os.path.abspath(self._model))
            self.name = "/".join(part for part in (os.path.basename(folder), name) if part)

    def network(self, options: NetworkOptions) -> _core.Network:
        """Reads the network with its weights."""
        keywords: dict[str, Any] = {"weights": options.weights, "output": self._output, "dimensions": options.dimensions}
        keywords.update({key: list(getattr(options, key)) for key in ("constant", "trainable", "tie", "untie")})
        if isinstance(self._model, bytes):
            network = _core.Network.from_bytes(self._model, self.name, **keywords)
        else:
            network = _core.Network.load(self._model, **keywords)
        self._inputs = [str(entry["name"]) for entry in network.inputs]
        self._output_shape = tuple(network.output_shape)
        return network

    def data(self, data: Any) -> Data:
        """Takes (inputs, targets) of arrays, tensors or paths, data sets and loaders; inputs may be a dictionary by name."""
        from ._data import read

        found = read(data, names=self._inputs)
        if len(found.inputs) > 1:
            named = zip(found.inputs, self._inputs, strict=False)
            found.inputs = [(name or own, values) for (name, values), own in named]
        return found

    def loss(self, loss: Any) -> _core.Loss | CallableLoss:
        """Takes a name ("cross-entropy", "mse", "bce"), a `hessblock.Loss`, or a loss of PyTorch."""
        if loss is None:
            raise RequestError(
                "a loss is needed: give its name, such as 'cross-entropy', or hessblock.Loss.cross_entropy(…) with options"
            )
        if isinstance(loss, str):
            return _core.Loss.parse(loss)
        if isinstance(loss, _core.Loss) or (isinstance(loss, CallableLoss) and not callable(loss)):
            return loss
        if "torch" not in sys.modules:
            raise RequestError(
                f"a loss of type {type(loss).__name__} cannot be taken: give its name, a hessblock.Loss, or a loss of PyTorch, "
                "which needs PyTorch imported"
            )
        from ._torch_loss import Loss

        return Loss(loss, self._output_shape, reduction=self._reduction, notes=self.notes).taken

    def check(self, session: _core.Session, data: Data, loss: _core.Loss | CallableLoss, samples: Bounds) -> None:
        """Does nothing: there is no other implementation of a file to compare with."""


class FrozenFrontend:
    """The graph and the weights of a model of another library, without that library."""

    def __init__(self, name: str, graph: Graph, arrays: list[tuple[str, NDArray[Any]]]) -> None:
        self.name, self._graph, self._arrays = name, graph, arrays
        self.notes: list[str] = []

    def graph(self) -> Graph:
        """Returns the graph."""
        return self._graph

    def arrays(self) -> list[tuple[str, NDArray[Any]]]:
        """Returns the weights and buffers as they were."""
        return self._arrays

    def data(self, data: Any) -> Data:
        """Returns data that are arrays already."""
        from ._data import read

        return read(data)

    def loss(self, loss: Any) -> _core.Loss | CallableLoss:
        """Returns a loss of the library, or one with its derivatives, as it is."""
        found: _core.Loss | CallableLoss = loss
        return found

    def check(self, session: _core.Session, data: Data, loss: _core.Loss | CallableLoss, samples: Bounds) -> None:
        """Does nothing: the model itself is not here."""


def frontend_of(model: Any, *, output: str | int | None = None, reduction: str | None = None) -> Frontend | OnnxFrontend:
    """Returns the frontend of a model.

    Args:
        model: A `torch.nn.Module`, a path or the bytes of an ONNX file, or `(fn, params)` of JAX.
        output: The output to take, of a model that has several.
        reduction: The reduction of a callable loss over the samples, "mean" or "sum", if its values do not tell.

    Raises:
        ImportError: A package that the kind of model needs is not installed; the message names the extra.
        ModelError: The model is none of these.
    """
    if isinstance(model, (OnnxFrontend, FrozenFrontend)):
        return model
    if isinstance(model, (str, os.PathLike, bytes)):
        return OnnxFrontend(model, output=output, reduction=reduction)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        try:
            from ._torch import TorchFrontend
        except ModuleNotFoundError as error:
            raise missing(error, "torch", "a torch.nn.Module") from error
        taken: Frontend = TorchFrontend(model, output=output, reduction=reduction)
        return taken
    if isinstance(model, (tuple, list)) and len(model) == 2 and callable(model[0]):
        try:
            from ._jax import JaxFrontend
        except ModuleNotFoundError as error:
            raise missing(error, "jax", "a function of JAX with its parameters") from error
        taken = JaxFrontend(model[0], model[1], output=output, reduction=reduction)
        return taken
    raise ModelError(
        f"a model of type {type(model).__name__} cannot be taken: give a torch.nn.Module, a path or the bytes of an "
        "ONNX file, or (fn, params) of JAX"
    )


def missing(error: ModuleNotFoundError, extra: str, what: str) -> ImportError:
    """Returns the exception for a package that is not installed, with the extra that brings it."""
    text = f"{what} needs {error.name}, which is not installed: pip install 'hessblock[{extra}]'"
    return ImportError(text, name=error.name)


def network_of(frontend: Frontend | OnnxFrontend, options: NetworkOptions) -> _core.Network:
    """Makes the compiled module's network of a model.

    Raises:
        RequestError: An option that only ONNX files have was given for another kind of model.
    """
    if isinstance(frontend, OnnxFrontend):
        return frontend.network(options)
    for name in ("trainable", "tie", "untie", "weights"):
        if getattr(options, name):
            raise RequestError(
                f"{name}= is for ONNX files: {frontend.name} says itself which weights it has, which are shared "
                "and which are trained (requires_grad)"
            )
    graph = frontend.graph()
    return _core.Network.from_graph(
        graph.proto,
        frontend.arrays(),
        graph.parameters,
        name=frontend.name,
        aliases=graph.aliases,
        constant=list(options.constant),
        output=graph.output,
        dimensions=options.dimensions,
    )
