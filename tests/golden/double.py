"""Runs an ONNX file in double precision, to see whether it computes the module to the last digits."""

import copy
import math

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

erf = np.vectorize(math.erf, otypes=[np.float64])


class Gelu(OpRun):  # onnx has these as functions whose constants are in single precision
    def _run(self, x, approximate=None):
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))),)
        return (0.5 * x * (1 + erf(x / math.sqrt(2))),)


class HardSwish(OpRun):
    def _run(self, x):
        return (x * np.clip(x / 6 + 0.5, 0, 1),)


class LayerNormalization(OpRun):
    def _run(self, x, scale, shift=None, axis=None, epsilon=None, stash_type=None):
        axes = tuple(range(axis % x.ndim, x.ndim))
        mean = x.mean(axes, keepdims=True)
        y = (x - mean) / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + epsilon) * scale
        return (y if shift is None else y + shift,)


class RMSNormalization(OpRun):
    def _run(self, x, scale, axis=None, epsilon=None, stash_type=None):
        axes = tuple(range(axis % x.ndim, x.ndim))
        return (x / np.sqrt((x ** 2).mean(axes, keepdims=True) + epsilon) * scale,)


class GroupNormalization(OpRun):
    def _run(self, x, scale, shift, epsilon=None, num_groups=None, stash_type=None):
        grouped = x.reshape(x.shape[0], num_groups, -1)
        center = grouped - grouped.mean(2, keepdims=True)
        y = (center / np.sqrt((center ** 2).mean(2, keepdims=True) + epsilon)).reshape(x.shape)
        affine = (1, -1) + (1,) * (x.ndim - 2)
        return (y * scale.reshape(affine) + shift.reshape(affine),)


class Attention(OpRun):
    def _run(self, q, k, v, mask=None, is_causal=None, scale=None, **_):
        repeat = q.shape[1] // k.shape[1]
        k, v = k.repeat(repeat, 1), v.repeat(repeat, 1)
        scores = q @ k.swapaxes(2, 3) * (scale or q.shape[-1] ** -0.5)
        if is_causal:
            scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
        if mask is not None:
            scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
        most = scores.max(-1, keepdims=True)
        weights = np.exp(scores - most)
        weights = np.where(np.isneginf(most), 0, weights / weights.sum(-1, keepdims=True))
        return (weights @ v,)


class Erf(OpRun):
    def _run(self, x):
        return (erf(x),)


OPERATIONS = [Gelu, HardSwish, Erf, LayerNormalization, RMSNormalization, GroupNormalization,
              Attention]


def doubled(model):
    """The model with every single (or half) precision array and type made double."""
    model = copy.deepcopy(model)
    graph = model.graph
    del graph.value_info[:]
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)

    def tensor(t):
        if t.data_type in floats:
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float64), t.name))

    for t in graph.initializer:
        tensor(t)
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.TENSOR:
                tensor(a.t)
            if a.name in ("to", "dtype") and a.i in floats:
                a.i = TensorProto.DOUBLE
            if node.op_type == "Constant" and a.name in ("value_float", "value_floats"):
                values = np.array(a.f if a.name == "value_float" else list(a.floats), np.float64)
                node.attribute.remove(a)
                node.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(values)))
                break
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type in floats:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return model


def tolerance(model, names, inputs, outputs, output=None):
    """"exact", "single", or what is wrong."""
    graph_inputs = model.graph.input
    dims = graph_inputs[0].type.tensor_type.shape.dim
    whole = len(dims) < inputs[0].ndim  # a sample is the whole input
    batch = 1 if whole else dims[0].dim_value or len(inputs[0])
    feeds = {i.name: v.numpy()[0] if whole else v.numpy()[:batch] for i, v in zip(graph_inputs, inputs)}
    try:
        run = ReferenceEvaluator(doubled(model), new_ops=OPERATIONS)
        with np.errstate(all="ignore"):
            got = run.run([output] if output else None, feeds)[0]
    except Exception as error:
        return f"not run: {type(error).__name__} {error}"
    expected = outputs.detach().numpy()[:batch]
    if got.ndim < expected.ndim:
        got = got[None]
    off = np.abs(got - expected).max() / max(1e-3, np.abs(expected).max())
    return "exact" if off < 1e-13 * 20 else "single" if off < 2e-6 else f"differs by {off:.1e}"
