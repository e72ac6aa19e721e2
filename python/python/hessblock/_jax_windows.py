"""Pooling as `lax.reduce_window` exports it, rewritten as pooling over the spatial axes.

jax2onnx puts two axes before an array and pools over all axes of it, that of the samples among them:
Unsqueeze(0), Unsqueeze(1), MaxPool, Squeeze(0, 1); a sum is a Conv of ones in place of MaxPool. The library pools over the
axes behind samples and channels: Transpose, MaxPool or AveragePool · size, Transpose back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

# Axes that the library pools over, at most.
SPATIAL = 3


@dataclass
class Window:
    """A window over all axes of an array [samples, …]."""

    kernel: list[int]
    strides: list[int]
    before: list[int]
    after: list[int]
    dilations: list[int]

    @property
    def pooled(self) -> list[int]:
        """The axes along which the window is larger than one entry, or leaves some out."""
        trivial = (1, 1, 0, 0)
        each = zip(self.kernel, self.strides, self.before, self.after, strict=True)
        return [axis for axis, extents in enumerate(each) if extents != trivial]

    def along(self, axes: list[int]) -> dict[str, list[int]]:
        """Returns the attributes of a pooling node over some axes."""
        return {
            "kernel_shape": [self.kernel[axis] for axis in axes],
            "strides": [self.strides[axis] for axis in axes],
            "pads": [self.before[axis] for axis in axes] + [self.after[axis] for axis in axes],
            "dilations": [self.dilations[axis] for axis in axes],
        }


def rewrite(graph: Any) -> None:
    """Rewrites the windows of a graph whose samples are not pooled over; others are left as they are."""
    constants = {each.name: each for each in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    gone: list[int] = []
    nodes: list[Any] = []
    for node in graph.node:
        made = None
        if node.op_type in ("MaxPool", "Conv"):
            made = pooling(node, constants, makers, users)
        if made is None:
            nodes.append(node)
        else:
            squeeze = users[node.output[0]][0]
            gone.append(id(squeeze))
            nodes.extend(made)
    del_ids = set(gone)
    kept = [node for node in nodes if id(node) not in del_ids]
    # Of the Unsqueezes only those stay that something else uses.
    while True:
        used = {name for node in kept for name in node.input} | {each.name for each in graph.output}
        fewer = [node for node in kept if node.op_type != "Unsqueeze" or any(name in used for name in node.output)]
        if len(fewer) == len(kept):
            break
        kept = fewer
    copies = [type(graph.node[0]).FromString(node.SerializeToString()) for node in kept] if kept else []
    del graph.node[:]
    graph.node.extend(copies)


def pooling(node: Any, constants: dict[str, Any], makers: dict[str, Any], users: dict[str, list[Any]]) -> list[Any] | None:
    """Returns the nodes that a window becomes, or None for a node that is no such window."""
    source = unsqueezed(node.input[0], constants, makers)
    after = users.get(node.output[0], [])
    if source is None or len(after) != 1 or axes_of(after[0], "Squeeze", constants) != [0, 1]:
        return None
    window = window_of(node, constants)
    if window is None:
        return None
    rank, pooled = len(window.kernel), window.pooled
    rest = [axis for axis in range(1, rank) if axis not in pooled]
    spatial = rest[1:] + pooled
    if not pooled or pooled[0] == 0 or len(spatial) > SPATIAL:
        return None
    is_sum = node.op_type == "Conv"
    if is_sum and any(step > 1 for step in window.dilations):
        return None
    name, output = node.name or node.output[0], after[0].output[0]
    nodes: list[Any] = []

    def step(kind: str, inputs: list[str], result: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [result], name=f"{name}_{len(nodes)}", **attributes))
        return result

    def constant(value: Any, what: str) -> str:
        tensor = numpy_helper.from_array(value, f"{name}_{what}")
        nodes.append(helper.make_node("Constant", [], [tensor.name], name=tensor.name, value=tensor))
        return str(tensor.name)

    order = [0, *rest[:1], *spatial]
    value = source
    if not rest:
        value = step("Unsqueeze", [value, constant(np.array([1], np.int64), "channel")], f"{name}_in")
    elif order != list(range(rank)):
        value = step("Transpose", [value], f"{name}_in", perm=order)
    attributes: dict[str, Any] = window.along(spatial)
    if is_sum:
        mean = step("AveragePool", [value], f"{name}_mean", count_include_pad=1, **attributes)
        size = np.array(math.prod(window.kernel), numpy_helper.to_array(constants[node.input[1]]).dtype)
        value = step("Mul", [mean, constant(size, "size")], f"{name}_out")
    else:
        value = step("MaxPool", [value], f"{name}_out", **attributes)
    if not rest:
        step("Squeeze", [value, constant(np.array([1], np.int64), "channel_out")], output)
    else:
        step("Transpose", [value], output, perm=[order.index(axis) for axis in range(rank)])
    return nodes


def unsqueezed(name: str, constants: dict[str, Any], makers: dict[str, Any]) -> str | None:
    """Returns the name of the array before Unsqueeze(0) and Unsqueeze(1), or None."""
    for axis in (1, 0):
        maker = makers.get(name)
        if maker is None or axes_of(maker, "Unsqueeze", constants) not in ([axis], [0]):
            return None
        name = maker.input[0]
    return name


def axes_of(node: Any, kind: str, constants: dict[str, Any]) -> list[int] | None:
    """Returns the constant axes of a Squeeze or Unsqueeze, or None for another node."""
    if node.op_type != kind or len(node.input) < 2 or node.input[1] not in constants:
        return None
    return [int(axis) for axis in numpy_helper.to_array(constants[node.input[1]])]


def window_of(node: Any, constants: dict[str, Any]) -> Window | None:
    """Returns the window of a MaxPool, or of a Conv whose kernel is all ones."""
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type == "Conv":
        if len(node.input) != 2 or node.input[1] not in constants or attributes.get("group", 1) != 1:
            return None
        ones = numpy_helper.to_array(constants[node.input[1]])
        if ones.shape[:2] != (1, 1) or not np.all(ones == 1):
            return None
        kernel = list(ones.shape[2:])
    else:
        kernel = list(attributes.get("kernel_shape", []))
    known = {"group", "kernel_shape", "strides", "pads", "dilations"}
    if not kernel or not set(attributes) <= known:
        return None
    rank = len(kernel)
    pads = list(attributes.get("pads", [0] * 2 * rank))
    strides, dilations = (list(attributes.get(key, [1] * rank)) for key in ("strides", "dilations"))
    return Window(kernel, strides, pads[:rank], pads[rank:], dilations)
