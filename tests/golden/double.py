"""Runs an ONNX file in double precision, to see whether it computes the module to the last digits."""

import copy

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator


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
            if a.name in ("to", "dtype", "stash_type") and a.i in floats:
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
    batch = graph_inputs[0].type.tensor_type.shape.dim[0].dim_value or len(inputs[0])
    feeds = {i.name: v.numpy()[:batch] for i, v in zip(graph_inputs, inputs)}
    try:
        run = ReferenceEvaluator(doubled(model))
        got = run.run([output] if output else None, feeds)[0]
    except Exception as error:
        return f"cannot be run: {type(error).__name__} {error}"
    expected = outputs.detach().numpy()[:batch]
    off = np.abs(got - expected).max() / max(1e-3, np.abs(expected).max())
    return "exact" if off < 1e-13 * 20 else "single" if off < 2e-6 else f"differs by {off:.1e}"
