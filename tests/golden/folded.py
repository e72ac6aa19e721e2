"""Files whose initializers do not tell what is a parameter: folded by an exporter, of JAX, of Keras, or written as nodes.

Each case says which initializer is which parameter of the module, in the file's order, and with which options of the
importer (`trainable`, `tie`) the file has them.
"""

import dataclasses

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import helper, numpy_helper

from spec import Network, Tokens


@dataclasses.dataclass
class Folded:
    """A network, how its file is made (of an exporter, or by `nodes`), and its parameters: name in the file → (layer,
    name in the module, whether transposed)."""

    network: Network
    parameters: dict
    exporter: dict | None = None
    nodes: object = None
    options: dict = dataclasses.field(default_factory=dict)


OLD = dict(exporter="script", fold=True, opset=17)
NEW = dict(exporter="dynamo", fold=True)


class GroupNormed(nn.Module):
    """Both exporters fold the scale and shift of a GroupNorm into constants of another shape."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(2, 4, 3)
        self.n = nn.GroupNorm(2, 4)
        self.h = nn.Linear(16, 2)
        nn.init.normal_(self.n.weight, 1, 0.5)
        nn.init.normal_(self.n.bias, 0, 0.5)

    def forward(self, x):
        return self.h(torch.relu(self.n(self.c(x))).flatten(1))


class Scaled(nn.Module):
    """A gain per channel and a table of positions, given other shapes."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(1, 3, 2)
        self.gamma = nn.Parameter(torch.randn(3))
        self.table = nn.Parameter(torch.randn(12))
        self.h = nn.Linear(12, 2)

    def forward(self, x):
        return self.h(torch.tanh(self.c(x) * self.gamma[:, None, None] + self.table.view(3, 2, 2)).flatten(1))


class Tied(nn.Module):
    """A head that is the embedding; positions are looked up with constants."""

    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(7, 4)
        self.pos = nn.Embedding(5, 4)
        self.ln = nn.LayerNorm(4)
        self.up = nn.Linear(4, 6)
        self.down = nn.Linear(6, 4)
        self.head = nn.Linear(4, 7, bias=False)
        nn.init.normal_(self.ln.weight, 1, 0.3)
        nn.init.normal_(self.ln.bias, 0, 0.3)
        self.head.weight = self.tok.weight

    def forward(self, i):
        h = self.tok(i) + self.pos(torch.arange(i.shape[1]))
        return self.head(h + self.down(torch.tanh(self.up(self.ln(h)))))


class Autoencoder(nn.Module):
    """W and its transpose."""

    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(4, 3)
        self.out = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return F.linear(torch.sigmoid(self.enc(x)), self.enc.weight.t(), self.out)


class Residual(nn.Module):
    """u and u'' + u of a network of one hidden layer: its weights serve as a column, a row, and half of it."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(1, 5)
        self.b = nn.Linear(5, 1)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        w = self.a.weight[:, 0]
        second = (-2 * h * (1 - h * h) * w * w) @ self.b.weight.t()
        return torch.cat([self.b(h), second + self.b(h) + h @ (self.b.weight.t() / 2)], 1)


class Mlp(nn.Module):
    """Two affine layers with a layer norm, and a gain at the end."""

    def __init__(self, gain=True, norm=True):
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.n = nn.LayerNorm(4, eps=1e-6) if norm else nn.Identity()
        self.b = nn.Linear(4, 2)
        self.gain = nn.Parameter(torch.randn(2)) if gain else None
        if norm:
            nn.init.normal_(self.n.bias, 0, 0.3)  # its scale stays all ones

    def forward(self, x):
        h = self.b(torch.tanh(self.n(self.a(x))))
        return h if self.gain is None else h * self.gain


def file(nodes, arrays, network, opset=17, constants=(), producer=""):
    """A graph of (operation, inputs, output, attributes…) and arrays; those in `constants` are nodes."""
    made, initializers = [], []
    for name, array in arrays.items():
        tensor = numpy_helper.from_array(np.asarray(array), name)
        if name in constants:
            made.append(helper.make_node("Constant", [], [name], name=f"constant_{name}", value=tensor))
        else:
            initializers.append(tensor)
    made += [helper.make_node(operation, inputs, [output], name=f"node_{output}", **attributes)
             for operation, inputs, output, attributes in nodes]
    value = lambda name, shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    (x, shape), = network.inputs.items()
    graph = helper.make_graph(made, "graph", [value(x, ["batch", *shape])], [value("y", None)], initializers)
    return helper.make_model(graph, producer_name=producer, ir_version=9,
                             opset_imports=[helper.make_opsetid("", opset)])


def weights(module, transposed=()):
    get = lambda name: module.get_parameter(name).detach().float()
    return lambda name: (get(name).T if name in transposed else get(name)).contiguous().numpy()


def jax(network):
    """As jax2onnx writes flax: one Gemm, one product with the sum after it, a norm written out, no name."""
    w = weights(network.module, ("a.weight", "b.weight"))
    arrays = {
        "const_0": w("a.weight"), "const_1": w("a.bias"), "const_2": w("n.weight"), "const_3": w("n.bias"),
        "const_4": w("b.weight"), "const_5": w("b.bias")[None], "const_6": w("gain")[None],
        "const_7": np.float32(0), "axes_0": np.array([1]), "const_8": np.float32(1e-6), "dot_bias_0": np.float32(0),
    }
    nodes = [
        ("Gemm", ["x", "const_0", "const_1"], "out_0", {}),
        ("ReduceMean", ["out_0", "axes_0"], "ln_mean_0", {}),
        ("Sub", ["out_0", "ln_mean_0"], "ln_centered_0", {}),
        ("Mul", ["ln_centered_0", "ln_centered_0"], "ln_squared_0", {}),
        ("ReduceMean", ["ln_squared_0", "axes_0"], "ln_variance_0", {}),
        ("Max", ["ln_variance_0", "const_7"], "ln_nonnegative_variance_0", {}),
        ("Add", ["ln_nonnegative_variance_0", "const_8"], "ln_variance_eps_0", {}),
        ("Sqrt", ["ln_variance_eps_0"], "ln_stddev_0", {}),
        ("Div", ["ln_centered_0", "ln_stddev_0"], "ln_normalized_0", {}),
        ("Mul", ["ln_normalized_0", "const_2"], "ln_scaled_0", {}),
        ("Add", ["ln_scaled_0", "const_3"], "LayerNorm_0", {}),
        ("Tanh", ["LayerNorm_0"], "tanh_0", {}),
        ("Gemm", ["tanh_0", "const_4", "dot_bias_0"], "dot_out_0", {}),
        ("Add", ["dot_out_0", "const_5"], "add_out_0", {}),
        ("Mul", ["add_out_0", "const_6"], "y", {}),
    ]
    return file(nodes, arrays, network, opset=18, producer="jax2onnx")


KERAS = "StatefulPartitionedCall/sequential/"


def keras(network):
    """As tf2onnx writes Keras, the last bias without a name that tells."""
    w = weights(network.module, ("a.weight", "b.weight"))
    arrays = {
        KERAS + "dense/MatMul/ReadVariableOp:0": w("a.weight"), KERAS + "dense/BiasAdd/ReadVariableOp:0": w("a.bias"),
        KERAS + "dense_1/MatMul/ReadVariableOp:0": w("b.weight"), "jax2tf_rhs_/pjit_silu_/Const_2:0": w("b.bias"),
    }
    names = list(arrays)
    nodes = [
        ("MatMul", ["x", names[0]], "m", {}), ("Add", ["m", names[1]], "a", {}), ("Tanh", ["a"], "t", {}),
        ("MatMul", ["t", names[2]], "n", {}), ("Add", ["n", names[3]], "y", {}),
    ]
    return file(nodes, arrays, network, opset=15)


def as_nodes(network):
    """Weights as Constant nodes, and all nodes backwards."""
    w = weights(network.module, ("a.weight", "b.weight"))
    arrays = {"W": w("a.weight"), "b": w("a.bias"), "V": w("b.weight"), "c": w("b.bias")}
    nodes = [
        ("MatMul", ["x", "W"], "m", {}), ("Add", ["m", "b"], "a", {}), ("Tanh", ["a"], "t", {}),
        ("Gemm", ["t", "V", "c"], "y", {}),
    ]
    model = file(nodes, arrays, network, constants=("W", "V", "c"))
    backwards = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(backwards)
    return model


def same(*names, **others):
    """Parameters that have the module's names, and others: name → (layer, source, transposed)."""
    return {n: (n.rpartition(".")[0] or n, n, False) for n in names} | others


CONV = ("c.weight", "c.bias", "h.weight", "h.bias")


def makers():
    """Name → what makes the case."""
    image, tokens = {"x": (2, 4, 4)}, {"x": Tokens(7, (5,))}
    small = {"x": (1, 3, 3)}
    tied = dict(class_axis=-1)
    return {
        "folded_group_norm.old": lambda: Folded(
            Network(GroupNormed(), image, "cross_entropy"),
            same(*CONV) | {"onnx::Mul_24": ("n", "n.weight", False), "onnx::Add_25": ("n", "n.bias", False)},
            OLD, options={"trainable": ["onnx::Mul_24", "onnx::Add_*"]}),
        "folded_scale.new": lambda: Folded(
            Network(Scaled(), small),
            same(*CONV) | {"unsqueeze_1": ("unsqueeze_1", "gamma", False), "view": ("view", "table", False)},
            NEW, options={"trainable": ["unsqueeze_1", "view"]}),
        "folded_tie.old": lambda: Folded(
            Network(Tied(), tokens, "cross_entropy", **tied),
            same("tok.weight", "pos.weight", "ln.weight", "ln.bias", "up.bias", "down.bias")
            | {"onnx::MatMul_30": ("up", "up.weight", True), "onnx::MatMul_31": ("down", "down.weight", True)},
            OLD, options={"tie": ["auto"]}),
        "folded_tie.new": lambda: Folded(
            Network(Tied(), tokens, "cross_entropy", **tied),
            same("ln.weight", "ln.bias", "up.bias", "down.bias")
            | {"head.weight": ("head", "tok.weight", False), "embedding_1": ("embedding_1", "pos.weight", False),
               "val_7": ("up", "up.weight", True), "val_9": ("down", "down.weight", True)},
            NEW, options={"trainable": ["embedding_1"], "tie": ["val_11=head.weight[T]"]}),
        "folded_autoencoder.new": lambda: Folded(
            Network(Autoencoder(), {"x": (4,)}), same("out", "enc.weight", "enc.bias"), NEW),
        "folded_residual.new": lambda: Folded(
            Network(Residual(), {"x": (1,)}), same("a.weight", "a.bias", "b.weight", "b.bias"), NEW),
        "folded_residual.old": lambda: Folded(
            Network(Residual(), {"x": (1,)}), same("a.weight", "a.bias", "b.weight", "b.bias"), OLD,
            options={"tie": ["auto"]}),
        "nameless.jax": lambda: Folded(
            Network(Mlp(), {"x": (3,)}),
            {"const_0": ("node_out_0", "a.weight", True), "const_1": ("node_out_0", "a.bias", False),
             "const_2": ("node_LayerNorm_0", "n.weight", False), "const_3": ("node_LayerNorm_0", "n.bias", False),
             "const_4": ("node_dot_out_0", "b.weight", True), "const_5": ("node_dot_out_0", "b.bias", False),
             "const_6": ("node_y", "gain", False)}, nodes=jax),
        "nameless.keras": lambda: Folded(
            Network(Mlp(False, False), {"x": (3,)}, "cross_entropy"),
            {KERAS + "dense/MatMul/ReadVariableOp:0": ("sequential/dense", "a.weight", True),
             KERAS + "dense/BiasAdd/ReadVariableOp:0": ("sequential/dense", "a.bias", False),
             KERAS + "dense_1/MatMul/ReadVariableOp:0": ("sequential/dense_1", "b.weight", True),
             "jax2tf_rhs_/pjit_silu_/Const_2:0": ("sequential/dense_1", "b.bias", False)}, nodes=keras),
        "as_nodes.backwards": lambda: Folded(
            Network(Mlp(False, False), {"x": (3,)}),
            {"b": ("b", "a.bias", False), "c": ("c", "b.bias", False), "V": ("V", "b.weight", True),
             "W": ("W", "a.weight", True)}, nodes=as_nodes),
    }
