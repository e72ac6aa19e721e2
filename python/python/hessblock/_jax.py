"""A function of JAX with a tree of parameters, `(fn, params)`, as a model."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from . import _check, _core, _data
from . import _data_files as files
from ._errors import ModelError, ShapeError
from ._frontend import CallableLoss, Data, Graph
from ._jax_export import SAMPLES, Traced, export, rename, symbol, trace
from ._jax_loss import Loss, double, on_device
from ._lazy import Bounds


@dataclass(frozen=True)
class Leaf:
    """A parameter: an array in the tree."""

    name: str
    position: int
    """Its number among the tree's leaves."""
    shape: tuple[int, ...]


class JaxFrontend:
    """A function `fn(params, x)` and its parameters, any tree of arrays.

    Floating-point arrays are the parameters, named by their path (`dense.kernel`), in the order of the tree's leaves: that of
    `jax.flatten_util.ravel_pytree`. Other leaves are constants. A function of several inputs takes them one after the other,
    by keyword, or as one dictionary.
    """

    def __init__(self, function: Callable[..., Any], params: Any, *, output: str | int | None = None, reduction: str | None = None) -> None:
        """`output` is the output to take of a function that returns several; `reduction` says what a callable loss is over the
        samples, "mean" or "sum", where its values do not tell.

        Raises:
            ModelError: The tree has no parameters, or several of one name.
        """
        self.function, self.name = function, name_of(function)
        self.notes: list[str] = []
        self.output, self.reduction = output, reduction
        self._tree: Any
        paths, self._tree = jax.tree_util.tree_flatten_with_path(params)
        self._leaves: list[Any] = [leaf for _, leaf in paths]
        self.parameters = [
            Leaf(name_of_path(path), position, tuple(leaf.shape)) for position, (path, leaf) in enumerate(paths) if is_parameter(leaf)
        ]
        names = [leaf.name for leaf in self.parameters]
        if not names:
            raise ModelError(f"{self.name} has no parameters: give a tree of floating-point arrays beside the function")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ModelError(f"several parameters are called {', '.join(twice)}, as a path has a dot between its keys: rename a key")
        kinds = {np.dtype(self._leaves[leaf.position].dtype).name for leaf in self.parameters}
        self.double = "float64" in kinds
        """Whether the function computes in double precision."""
        self.notes += [f"the {kind} parameters of {self.name} are converted to float32" for kind in sorted(kinds - {"float32", "float64"})]
        self.notes += [f"the parameters of {self.name} are copied from {where} to the host" for where in self._elsewhere()]
        self._names: list[str] | None = None
        self._unique: list[str] = []
        self._style = ""
        self._specs: list[jax.ShapeDtypeStruct] = []
        self._traced: Traced | None = None
        self._graph: Graph | None = None
        self._loss: Loss | None = None

    def _elsewhere(self) -> list[str]:
        arrays = [self._leaves[leaf.position] for leaf in self.parameters]
        return sorted({str(each) for array in arrays if isinstance(array, jax.Array) for each in array.devices() if each.platform != "cpu"})

    def arrays(self) -> list[tuple[str, NDArray[Any]]]:
        """Returns the parameters by name, as views of JAX' memory where it is the host's."""
        return [(leaf.name, self._numbers(self._leaves[leaf.position])) for leaf in self.parameters]

    def _numbers(self, leaf: Any) -> NDArray[Any]:
        array = np.asarray(leaf)
        return array if array.dtype.name in ("float32", "float64") else array.astype(np.float32)

    def flatten(self, values: Any) -> Any:
        """Returns a tree like the parameters' as arrays by name, and anything else as it is.

        Raises:
            ShapeError: An array has another shape than the parameter of its name.
        """
        tree: Any
        leaves, tree = jax.tree_util.tree_flatten(values)
        if tree != self._tree or len(leaves) == 1 and len(self._leaves) == 1 and leaves[0] is values and isinstance(values, np.ndarray):
            return values
        found = {}
        for leaf in self.parameters:
            array = self._numbers(leaves[leaf.position])
            if array.shape != leaf.shape:
                raise ShapeError(f"{leaf.name} has shape {list(leaf.shape)}, and the new value {list(array.shape)}")
            found[leaf.name] = array
        return found

    def data(self, data: Any) -> Data:
        """Returns the arrays of what a user gave as data; the function is exported for inputs of their shapes.

        Raises:
            DataError: The data are not fixed samples.
            ModelError: The function does not take these inputs.
        """
        arguments = argument_names(self.function)
        taken = _data.read(data, names=arguments)
        given = [name for name, _ in taken.inputs]
        names, style = self._bind(given, arguments)
        # In the graph, an input may not be called as a parameter is.
        parameters = {leaf.name for leaf in self.parameters}
        unique = [f"{name} (input)" if name in parameters else name for name in names]
        taken.inputs = [(name, source) for name, (_, source) in zip(unique, taken.inputs, strict=True)]
        specs = [self._spec(source) for _, source in taken.inputs]
        if self._graph is not None and (names, specs) != (self._names, self._specs):
            raise ModelError(f"{self.name} was exported for other inputs: make a new problem")
        self._names, self._unique, self._style, self._specs = names, unique, style, specs
        return taken

    def _bind(self, given: list[str | None], arguments: list[str] | None) -> tuple[list[str], str]:
        """Returns the inputs' names and how the function takes them: one after the other, by keyword, or as a dictionary."""
        named = [name for name in given if name is not None]
        if named:
            if arguments is not None and set(named) <= set(arguments):
                return named, "keywords"
            return named, "dictionary"
        names = list(arguments or [])[: len(given)]
        names += [f"input{k}" for k in range(len(names), len(given))]
        return names, "positions"

    def _spec(self, source: NDArray[Any] | str) -> jax.ShapeDtypeStruct:
        sample = files.take(source, 0, 1)
        kind = sample.dtype.kind
        dtype = {"f": np.float64 if self.double else np.float32, "b": np.bool_}.get(kind, np.int64 if self.double else np.int32)
        return jax.ShapeDtypeStruct((SAMPLES, *sample.shape[1:]), dtype)

    def _call(self, leaves: list[Any], inputs: list[Any]) -> Any:
        """Calls the function with all leaves of the tree, and returns the output that is taken."""
        params = jax.tree_util.tree_unflatten(self._tree, leaves)
        names = self._names or []
        if self._style == "keywords":
            returned = self.function(params, **dict(zip(names, inputs, strict=True)))
        elif self._style == "dictionary":
            returned = self.function(params, dict(zip(names, inputs, strict=True)))
        else:
            returned = self.function(params, *inputs)
        paths = jax.tree_util.tree_leaves_with_path(returned)
        outputs = {name_of_path(path) if path else "output": leaf for path, leaf in paths}
        if self.output is None and len(outputs) == 1:
            return next(iter(outputs.values()))
        if isinstance(self.output, int) and -len(outputs) <= self.output < len(outputs):
            return list(outputs.values())[self.output]
        if self.output not in outputs:
            raise ModelError(f"{self.name} returns {len(outputs)} arrays ({', '.join(outputs)}): choose one by output=")
        return outputs[self.output]

    def _with(self, arrays: list[Any]) -> list[Any]:
        """Returns the tree's leaves with other arrays in place of the parameters."""
        leaves = list(self._leaves)
        for leaf, array in zip(self.parameters, arrays, strict=True):
            leaves[leaf.position] = array
        return leaves

    def _trace(self) -> Traced:
        if self._traced is None:
            if self._names is None:
                raise ModelError(f"{self.name} is exported for the shapes of its inputs: give the data first")
            samples, count, real = symbol(), len(self._names), np.float64 if self.double else np.float32
            specs = [jax.ShapeDtypeStruct((samples, *spec.shape[1:]), spec.dtype) for spec in self._specs]
            specs += [jax.ShapeDtypeStruct(leaf.shape, real) for leaf in self.parameters]
            with double() if self.double else contextlib.nullcontext():
                self._traced = trace(
                    self.name, lambda *given: self._call(self._with(list(given[count:])), list(given[:count])), specs, samples
                )
        return self._traced

    def graph(self) -> Graph:
        """Returns the function as a graph whose parameters are inputs. It is exported once.

        Raises:
            ModelError: The function branches on values or needs the number of samples.
            UnsupportedError: The function has operations that cannot be exported; all are listed.
        """
        if self._graph is None:
            model = export(self.name, self._trace(), self.double)
            parameters = [leaf.name for leaf in self.parameters]
            rename(model.graph, {f"in_{k}": name for k, name in enumerate([*self._unique, *parameters])})
            self._graph = Graph(model.SerializeToString(), parameters, {})
        return self._graph

    def loss(self, loss: Any) -> _core.Loss | CallableLoss:
        """Takes a name ("cross-entropy", "mse", "bce"), a `hessblock.Loss`, or a function (outputs, targets).

        Classes are on the outputs' last axis. A function that returns an array, as those of Optax, is taken with its mean.

        Raises:
            ModelError: It is no loss.
        """
        self._loss = Loss(loss, self._trace().shape, self.reduction, self.notes)
        return self._loss.taken

    def check(self, session: _core.Session, data: Data, loss: _core.Loss | CallableLoss, samples: Bounds) -> None:
        """Compares outputs, loss and gradient of a few samples with JAX' own in double precision.

        Raises:
            CheckError: They differ; the message says where and by how much.
        """
        own = None if self._loss is None else self._loss.jax
        ours = _check.of_network(session, data, loss, samples, own is None)
        _check.compare(self.name, "function", session, ours, self._own(data, own, samples))

    def _own(self, data: Data, loss: Callable[..., Any] | None, samples: Bounds) -> _check.Own:
        """Computes outputs, loss and gradient by JAX in double precision."""
        with double():
            inputs = [on_device(_check.first(source, samples)) for _, source in data.inputs]
            targets = None if data.targets is None else on_device(_check.first(data.targets, samples))
            arrays = [on_device(array) for _, array in self.arrays()]

            def value(arrays: list[Any]) -> tuple[Any, Any]:
                outputs = self._call(self._with(arrays), inputs)
                if loss is None:
                    return (outputs.reshape(-1) * on_device(_check.weights(outputs.size))).sum(), outputs
                return (loss(outputs) if targets is None else loss(outputs, targets)), outputs

            (found, outputs), gradient = jax.value_and_grad(value, has_aux=True)(arrays)
            by_name = {leaf.name: np.asarray(part, np.float64) for leaf, part in zip(self.parameters, gradient, strict=True)}
            return _check.Own(np.asarray(outputs, np.float64), None if loss is None else float(found), by_name)


def is_parameter(leaf: Any) -> bool:
    """Whether a leaf is an array of real floating-point numbers."""
    return isinstance(leaf, (jax.Array, np.ndarray)) and bool(jax.numpy.issubdtype(leaf.dtype, np.floating))


def name_of(function: Any) -> str:
    """Returns a name for messages: that of the function, or of the module whose method it is."""
    function = getattr(function, "func", function)
    owner = getattr(function, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        return type(owner).__name__
    name = str(getattr(function, "__name__", type(function).__name__))
    return "function" if name == "<lambda>" else name


def name_of_path(path: tuple[Any, ...]) -> str:
    """Returns the keys of a path in a tree with dots between them, such as `dense.kernel`."""
    keys = list(path)
    # A variable of Flax NNX holds its array as `value`.
    if len(keys) > 1 and getattr(keys[-1], "name", None) == "value":
        keys.pop()
    parts = []
    for key in keys:
        for attribute in ("key", "name", "idx"):
            if hasattr(key, attribute):
                parts.append(str(getattr(key, attribute)))
                break
        else:
            parts.append(str(key))
    return ".".join(parts) or "params"


def argument_names(function: Any) -> list[str] | None:
    """Returns the names of a function's arguments after the parameters; None where they are not known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [each.name for each in list(signature.parameters.values())[1:] if each.kind in kinds]
    return named or None
