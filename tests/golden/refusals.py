"""Models that must be refused, each with what the message must say."""

import pathlib

import onnx
import torch
import torch.nn as nn
from onnx import TensorProto, helper


class Of(nn.Module):
    """A linear layer, a part, a linear layer."""

    def __init__(self, part, inside=4):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.part = part
        self.head = nn.Linear(inside, 2)

    def forward(self, x):
        return self.head(self.part(torch.tanh(self.first(x))))


class Constant(nn.Module):
    """An output of parameters alone."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.bias = nn.Parameter(torch.randn(2, 3))

    def forward(self, x):
        return torch.tanh(self.bias)


class Part(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def exported(path, module, shape, dynamo=True, training=False):
    example = torch.randn(2, *shape)
    module.train(training)
    if dynamo:
        torch.onnx.export(module, (example,), path, dynamo=True, optimize=False, verbose=False,
                          external_data=False, dynamic_shapes=({0: torch.export.Dim("batch")},))
    else:
        mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
        torch.onnx.export(module, (example,), path, dynamo=False, do_constant_folding=False, training=mode,
                          opset_version=17, input_names=["x"], dynamic_axes={"x": {0: "batch"}})


def written(path, nodes, weights, inputs=(("x", ["batch", 3]),), output=("y", ["batch", 2]), opset=17):
    """A file with these nodes, for what no exporter writes any more."""
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    generator = torch.Generator().manual_seed(5)
    initializers = [onnx.numpy_helper.from_array(torch.randn(s, generator=generator).numpy(), n)
                    for n, s in weights.items()]
    graph = helper.make_graph(nodes, "refused", [value(*i) for i in inputs], [value(*output)], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, path)


def largest(x):
    return x.topk(2, 1).values


def makers():
    """name → (function that writes the file, what the message says)."""
    net = lambda part, inside=4, **rest: lambda path: exported(path, Of(part, inside), (3,), **rest)
    node = helper.make_node
    return {
        "batch_norm_training": (net(nn.BatchNorm1d(4), dynamo=False, training=True),
                                ["BatchNormalization", "training"]),
        "samples_centered": (net(Part(lambda h: h - h.mean(0))), ["ReduceMean", "samples"]),
        "samples_centered_old": (net(Part(lambda h: h - h.mean(0)), dynamo=False), ["ReduceMean", "samples"]),
        "samples_summed": (net(Part(lambda h: h.sum(0, keepdim=True) + h)), ["ReduceSum", "samples"]),
        "samples_attended": (net(Part(lambda h: (h @ h.t()) @ h)), ["samples"]),
        "samples_softmax": (net(Part(lambda h: h.softmax(0))), ["Softmax", "samples"]),
        "samples_cumsum": (net(Part(lambda h: h.cumsum(0))), ["CumSum", "samples"]),
        "samples_first": (net(Part(lambda h: h + h[:1])), ["Slice", "samples"]),
        "samples_flipped": (net(Part(lambda h: h.flip(0))), ["samples"]),
        "samples_joined": (net(Part(lambda h: torch.cat([h, h], 0))), ["Concat", "samples"]),
        "argmax": (net(Part(lambda h: h * h.argmax(1, keepdim=True))), ["ArgMax"]),
        "topk": (net(Part(largest), 2), ["TopK"]),
        "sorted": (net(Part(lambda h: h.sort(1).values)), ["TopK"]),
        "constant": (lambda path: exported(path, Constant(), (3,)), ["no input"]),
        "loop": (lambda path: looped(path), ["Loop"]),
        "conditional": (lambda path: conditional(path), ["If"]),
        "unknown_operation": (lambda path: written(path, [
            node("MatMul", ["x", "w"], ["y"], "first"),
            node("Det", ["x"], ["z"], "second")], {"w": (3, 2)}, output=("z", [])), ["Det"]),
        "custom_domain": (lambda path: custom(path), ["com.example", "Wavelet"]),
    }


def looped(path):
    body = helper.make_graph(
        [helper.make_node("Tanh", ["h_in"], ["h_out"]), helper.make_node("Identity", ["go_in"], ["go_out"])],
        "body",
        [helper.make_tensor_value_info("k", TensorProto.INT64, []),
         helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
         helper.make_tensor_value_info("h_in", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
         helper.make_tensor_value_info("h_out", TensorProto.FLOAT, None)])
    written(path, [helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
                   helper.make_node("Loop", ["times", "", "h"], ["y"], "repeat", body=body)], {"w": (3, 2)})
    model = onnx.load(path)
    model.graph.initializer.append(helper.make_tensor("times", TensorProto.INT64, [], [3]))
    onnx.save(model, path)


def conditional(path):
    branch = lambda operation: helper.make_graph(
        [helper.make_node(operation, ["h"], ["out"])], operation.lower(), [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])
    written(path, [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("ReduceMax", ["h"], ["most"], "most", keepdims=0),
        helper.make_node("Cast", ["most"], ["positive"], "cast", to=TensorProto.BOOL),
        helper.make_node("If", ["positive"], ["y"], "choose", then_branch=branch("Tanh"),
                         else_branch=branch("Relu")),
    ], {"w": (3, 2)})


def custom(path):
    written(path, [helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
                   helper.make_node("Wavelet", ["h"], ["y"], "wave", domain="com.example")], {"w": (3, 2)})
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, path)


def write(folder, keep):
    """The list of the index."""
    listed = []
    for name, (write_file, says) in makers().items():
        path = pathlib.Path(folder) / f"refused_{name}.onnx"
        if not (keep and path.exists()):
            torch.manual_seed(9)
            try:
                write_file(path)
            except Exception as error:
                print(f"{path.stem}: not exported: {str(error)[:200]}")
                path.unlink(missing_ok=True)
                continue
        listed.append({"name": name, "model": f"models/{path.name}", "says": says})
    return listed
