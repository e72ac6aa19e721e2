"""A function of JAX as a graph whose weights are inputs, by jax2onnx."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax2onnx
from jax.extend import core as jax_core

from . import _jax_windows
from ._errors import ModelError, UnsupportedError
from ._text import first_line

# The name of the axis of the samples.
SAMPLES = "N"
HINT_VALUES = "write it with jax.numpy.where, so that every sample takes the same operations"


@dataclass
class Traced:
    """A function of arrays, as JAX traced it for any number of samples."""

    function: Callable[..., Any]
    """Takes inputs and parameters as arrays, returns one array."""
    specs: list[jax.ShapeDtypeStruct]
    closed: Any
    shape: tuple[int, ...]
    """The shape of a sample's outputs."""


def symbol() -> Any:
    """Returns a new symbolic number of samples."""
    return jax.export.symbolic_shape(SAMPLES)[0]


def trace(name: str, function: Callable[..., Any], specs: Sequence[jax.ShapeDtypeStruct], samples: Any) -> Traced:
    """Traces a function for `samples` samples, a symbol.

    Raises:
        ModelError: The function branches on values, needs the number of samples, or does not return an array with the
            samples on its first axis.
    """
    try:
        closed = jax.make_jaxpr(function)(*specs)
    except jax.errors.ConcretizationTypeError as error:
        raise ModelError(f"{name} branches on the values of its inputs or parameters: {HINT_VALUES} ({first_line(error)})") from error
    except Exception as error:
        if type(error).__name__ == "InconclusiveDimensionOperation" or "_DimExpr" in str(error):
            raise ModelError(
                f"{name} needs the number of samples as a number of Python, and hessblock takes it for any number: use x.shape[0] and not "
                f"len(x), and only in shapes ({first_line(error)})"
            ) from error
        raise
    (result,) = closed.out_avals
    if not result.shape or result.shape[0] is not samples and str(result.shape[0]) != str(samples):
        raise ModelError(
            f"{name} returns an array of shape [{', '.join(map(str, result.shape))}] for {SAMPLES} samples, and the samples must be on its "
            "first axis: for a function of one sample give jax.vmap(fn, (None, 0))"
        )
    shape = tuple(result.shape[1:])
    if not all(isinstance(extent, int) for extent in shape):
        raise ModelError(f"{name} returns an array whose shape depends on the number of samples: [{', '.join(map(str, result.shape))}]")
    return Traced(function, list(specs), closed, shape)


def export(name: str, traced: Traced, double: bool) -> Any:
    """Exports what was traced, as an ONNX model whose inputs are `in_0`, `in_1`, … in the order of the arguments.

    Raises:
        UnsupportedError: The function has operations that jax2onnx cannot export; all are listed.
    """

    def onnx_of(function: Callable[..., Any]) -> Any:
        with quiet():
            return jax2onnx.to_onnx(function, traced.specs, model_name=name, enable_double_precision=double)

    try:
        model = onnx_of(traced.function)
    except Exception as first:
        # Once more without what jax2onnx puts in place of functions of jax.nn, Flax and Equinox.
        try:
            model = onnx_of(jax_core.jaxpr_as_fun(traced.closed))
        except Exception as second:
            missing = unknown(traced.closed.jaxpr)
            if missing:
                text = f"{name} has operations that jax2onnx cannot export: {', '.join(missing)}"
                raise UnsupportedError(text, nodes=missing) from second
            raise UnsupportedError(f"jax2onnx cannot export {name}: {first_line(first)}", nodes=[first_line(first)]) from first
    _jax_windows.rewrite(model.graph)
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the exporter's remarks about shapes that it does not write from the screen."""
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def unknown(jaxpr: Any) -> list[str]:
    """Returns the names of the primitives that jax2onnx has no rule for, each once."""
    from jax2onnx.plugins import plugin_system

    registry = getattr(plugin_system, "PLUGIN_REGISTRY", None)
    if not registry:
        return []
    return sorted({equation.primitive.name for equation in equations(jaxpr)} - set(registry))


def equations(jaxpr: Any) -> Iterator[Any]:
    """Iterates over the equations of a jaxpr and of those within it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def rename(graph: Any, names: dict[str, str]) -> None:
    """Gives inputs of a graph other names; a value within it that has one of these gets another."""
    wanted = set(names.values())
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | wanted
    changes = dict(names)
    within = [name for node in graph.node for name in node.output] + [each.name for each in graph.initializer]
    for name in within:
        if name in wanted:
            other = f"{name}_"
            while other in taken:
                other += "_"
            taken.add(other)
            changes[name] = other
    _rename(graph, changes)


def _rename(graph: Any, changes: dict[str, str]) -> None:
    for each in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        each.name = changes.get(each.name, each.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [changes.get(name, name) for name in names]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                _rename(inner, changes)
