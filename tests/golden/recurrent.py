"""Recurrent networks: as the exporters write them, folded (where the file has weights of its own layout), and nodes with
what PyTorch has no word for (peepholes, clipping, other activations, layout 1)."""

import pathlib

import numpy as np
import onnx
import torch
import torch.nn as nn
from onnx import TensorProto, helper

from spec import Network, Tokens


class Lengths(Tokens):
    """How many of `shape[0]` steps each sample has, the longest first."""

    def draw(self, samples, generator):
        drawn = torch.randint(1, self.count, (samples,), generator=generator)
        return drawn.sort(descending=True).values


class Last(nn.Module):
    """A linear layer on the last step, or on the last states of all layers and directions."""

    def __init__(self, kind, width=2, hidden=2, states=False, **options):
        super().__init__()
        self.inner = kind(width, hidden, **options)
        self.states = states
        self.first = options.get("batch_first", False)
        directions = 2 if options.get("bidirectional") else 1
        layers = options.get("num_layers", 1) if states else 1
        self.head = nn.Linear(hidden * directions * layers * (2 if states and kind is nn.LSTM else 1), 2)

    def forward(self, x):
        y, states = self.inner(x if self.first else x.transpose(0, 1))
        if not self.states:
            return self.head(y[:, -1] if self.first else y[-1])
        states = states if isinstance(states, tuple) else (states,)
        return self.head(torch.cat([s.transpose(0, 1).flatten(1) for s in states], 1))


class Started(nn.Module):
    """First states that are learned, the same for all samples."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(1, 1, 2))
        self.inner = nn.GRU(2, 2, batch_first=True)
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        return self.head(self.inner(x, self.hidden.expand(-1, x.shape[0], -1).contiguous())[0][:, -1])


class Given(nn.Module):
    """First states that another layer computes of the data."""

    def __init__(self):
        super().__init__()
        self.start = nn.Linear(2, 4)
        self.inner = nn.LSTM(2, 2, batch_first=True)
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        start = self.start(x[:, 0]).unsqueeze(0)
        return self.head(self.inner(x, (start[..., :2], start[..., 2:]))[0].mean(1))


def makers():
    """name → Network."""
    first = {"batch_first": True}
    sequence = lambda part, **rest: Network(part, {"x": (3, 2)}, **rest)
    fixed = ("new_fixed", "old_fixed")
    return {
        "lstm": lambda: sequence(Last(nn.LSTM, **first), variants=("old_opset11", "new_newest", *fixed)),
        "lstm_states": lambda: sequence(Last(nn.LSTM, bidirectional=True, states=True, bias=False)),
        "lstm_stacked": lambda: sequence(Last(nn.LSTM, hidden=1, num_layers=2, **first)),
        "lstm_given": lambda: sequence(Given()),
        "gru": lambda: sequence(Last(nn.GRU, **first), variants=fixed),
        "gru_stacked": lambda: sequence(Last(nn.GRU, hidden=1, num_layers=2, bidirectional=True)),
        "gru_started": lambda: sequence(Started()),
        "rnn": lambda: sequence(Last(nn.RNN, **first), exports=("old",), variants=fixed[1:]),
        "rnn_relu": lambda: sequence(Last(nn.RNN, nonlinearity="relu", bidirectional=True, states=True),
                                     exports=("old",)),
    }


class Laid(nn.Module):
    """The formulas of ONNX's RNN, GRU and LSTM over the parameters W, R, B, P in the file's layout, then a product of
    all results with `head`."""

    GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}

    def __init__(self, kind, width, hidden, steps, directions=("forward",), bias=True, peepholes=False, started=False,
                 lengths=False, clip=None, activations=None, coupled=False, before_reset=0, layout=0):
        super().__init__()
        d, rows = len(directions), self.GATES[kind] * hidden
        self.kind, self.hidden, self.steps, self.directions = kind, hidden, steps, directions
        self.clip, self.coupled, self.before_reset, self.layout = clip, coupled, before_reset, layout
        self.lengths = lengths
        # Per direction (name, alpha, beta), alpha and beta None where the function has none.
        self.activations = activations or {
            "RNN": [("Tanh", None, None)], "GRU": [("Sigmoid", None, None), ("Tanh", None, None)],
            "LSTM": [("Sigmoid", None, None), ("Tanh", None, None), ("Tanh", None, None)]}[kind]
        self.W = nn.Parameter(torch.randn(d, rows, width))
        self.R = nn.Parameter(torch.randn(d, rows, hidden))
        self.B = nn.Parameter(torch.randn(d, 2 * rows)) if bias else None
        state = (1, d, hidden) if layout else (d, 1, hidden)
        self.h = nn.Parameter(torch.randn(*state)) if started else None
        self.c = nn.Parameter(torch.randn(*state)) if started and kind == "LSTM" else None
        self.P = nn.Parameter(torch.randn(d, 3 * hidden)) if peepholes else None
        count = (steps + (2 if kind == "LSTM" else 1)) * d * hidden
        self.head = nn.Parameter(torch.randn(count, 2) / count ** 0.5)

    def function(self, k, x):
        if self.clip:
            x = torch.clamp(x, -self.clip, self.clip)
        name, alpha, beta = self.activations[k]
        return {
            "Tanh": torch.tanh, "Sigmoid": torch.sigmoid, "Softsign": nn.functional.softsign, "Relu": torch.relu,
            "Affine": lambda v: alpha * v + beta, "ScaledTanh": lambda v: alpha * torch.tanh(beta * v),
            "Elu": lambda v: nn.functional.elu(v, alpha), "Softplus": nn.functional.softplus,
            "LeakyRelu": lambda v: nn.functional.leaky_relu(v, alpha),
            "HardSigmoid": lambda v: torch.clamp(alpha * v + beta, 0, 1),
        }[name](x)

    def forward(self, x, lengths=None):
        return torch.cat([part.flatten(1) for part in self.results(x, lengths)], 1) @ self.head

    def results(self, x, lengths=None):
        """Y as [samples, steps, directions, hidden], the last h and c as [samples, directions, hidden]."""
        n, hidden = len(x), self.hidden
        every = []
        for d, direction in enumerate(self.directions):
            state = lambda s: x.new_zeros(n, hidden) if s is None else s.reshape(-1, hidden)[d].expand(n, -1)
            h, c = state(self.h), state(self.c)
            w, r = self.W[d], self.R[d]
            wb, rb = self.B[d].chunk(2) if self.B is not None else (x.new_zeros(len(w)),) * 2
            p = self.P[d].chunk(3) if self.P is not None else [x.new_zeros(hidden)] * 3
            outputs = [None] * self.steps
            for t in (range(self.steps) if direction == "forward" else reversed(range(self.steps))):
                a = (x[:, t] @ w.t() + wb).chunk(self.GATES[self.kind], 1)
                if self.kind == "RNN":
                    new, cell = self.function(0, a[0] + h @ r.t() + rb), c
                elif self.kind == "GRU":
                    s, b = (h @ r.t()).chunk(3, 1), rb.chunk(3)
                    z = self.function(0, a[0] + s[0] + b[0])
                    reset = self.function(0, a[1] + s[1] + b[1])
                    late = reset * (s[2] + b[2]) if self.before_reset else (reset * h) @ r[2 * hidden:].t() + b[2]
                    new, cell = (1 - z) * self.function(1, a[2] + late) + z * h, c
                else:
                    i, o, f, g = [u + v for u, v in zip(a, (h @ r.t() + rb).chunk(4, 1))]
                    i = self.function(0, i + p[0] * c)
                    f = 1 - i if self.coupled else self.function(0, f + p[2] * c)
                    cell = f * c + i * self.function(1, g)
                    new = self.function(0, o + p[1] * cell) * self.function(2, cell)
                inside = torch.ones(n, 1, dtype=torch.bool) if lengths is None else (t < lengths)[:, None]
                h, c = torch.where(inside, new, h), torch.where(inside, cell, c)
                outputs[t] = torch.where(inside, h, torch.zeros_like(h))
            every.append((torch.stack(outputs, 1), h, c))
        ys, hs, cs = zip(*every)
        return [torch.stack(ys, 2), torch.stack(hs, 1)] + ([torch.stack(cs, 1)] if self.kind == "LSTM" else [])

    def write(self, path):
        """The node, its results joined, and the product."""
        named = dict(self.named_parameters())
        place = {k: k if k in named else "" for k in "WRBhcP"}
        lengths = "lengths" if self.lengths else ""
        inputs = ["x" if self.layout else "steps", place["W"], place["R"], place["B"], lengths]
        inputs += [place["h"]] + ([place["c"], place["P"]] if self.kind == "LSTM" else [])
        for state in ("h", "c"):  # one row for all samples, repeated
            inputs = [f"{state}s" if i == state else i for i in inputs]
        while not inputs[-1]:
            inputs.pop()
        several = len(self.directions) > 1
        options = {"hidden_size": self.hidden,
                   "direction": "bidirectional" if several else self.directions[0]}
        functions = self.activations * len(self.directions)
        options["activations"] = [name for name, *_ in functions]
        alphas, betas = ([v for v in values if v is not None] for values in list(zip(*functions))[1:])
        options |= {"activation_alpha": alphas} if alphas else {}
        options |= {"activation_beta": betas} if betas else {}
        options |= {"clip": self.clip} if self.clip else {}
        options |= {"input_forget": 1} if self.coupled else {}
        options |= {"linear_before_reset": 1} if self.before_reset else {}
        options |= {"layout": 1} if self.layout else {}
        results = ["Y", "Yh", "Yc"][:3 if self.kind == "LSTM" else 2]
        nodes = [] if self.layout else [helper.make_node("Transpose", ["x"], ["steps"], "turn", perm=[1, 0, 2])]
        weights = [onnx.numpy_helper.from_array(v.detach().float().numpy(), k) for k, v in named.items()]
        for state in ("h", "c"):
            if place[state]:
                batch = 0 if self.layout else 1
                nodes += [helper.make_node("Shape", ["x"], [f"{state}n"], f"{state}n", start=0, end=1),
                          helper.make_node("Concat", [["one", f"{state}n"][k == batch] for k in range(3)],
                                           [f"{state}shape"], f"{state}shape", axis=0),
                          helper.make_node("Expand", [state, f"{state}shape"], [f"{state}s"], f"{state}s")]
                weights += [onnx.numpy_helper.from_array(np.array([1]), "one")] if state == "h" else []
        nodes.append(helper.make_node(self.kind, inputs, results, "inner", **options))
        orders = {"Y": [2, 0, 1, 3], "Yh": [1, 0, 2], "Yc": [1, 0, 2]}
        for result in results:
            flat = result
            if not self.layout:
                nodes.append(helper.make_node("Transpose", [result], [f"{result}t"], f"{result}t",
                                              perm=orders[result]))
                flat = f"{result}t"
            nodes.append(helper.make_node("Flatten", [flat], [f"{result}f"], f"{result}f"))
        nodes.append(helper.make_node("Concat", [f"{r}f" for r in results], ["all"], "all", axis=1))
        nodes.append(helper.make_node("MatMul", ["all", "head"], ["y"], "head_product"))
        value = helper.make_tensor_value_info
        given = [value("x", TensorProto.FLOAT, ["batch", self.steps, self.W.shape[2]])]
        given += [value("lengths", TensorProto.INT32, ["batch"])] if self.lengths else []
        graph = helper.make_graph(nodes, "recurrent", given, [value("y", TensorProto.FLOAT, ["batch", 2])], weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)

    def network(self):
        inputs = {"x": (self.steps, self.W.shape[2])}
        return Network(self, inputs | ({"lengths": Lengths(self.steps + 1, ())} if self.lengths else {}))


def nodes():
    """name → module in the file's layout."""
    plain = (None, None)
    both = ("forward", "reverse")
    return {
        "lstm_peepholes": lambda: Laid("LSTM", 2, 2, 3, peepholes=True, started=True, clip=1.5),
        "lstm_coupled": lambda: Laid("LSTM", 2, 2, 2, ("reverse",), bias=False, coupled=True),
        "lstm_lengths": lambda: Laid("LSTM", 2, 1, 3, both, lengths=True, started=True),
        "lstm_functions": lambda: Laid("LSTM", 2, 2, 2, activations=[
            ("HardSigmoid", 0.25, 0.5), ("ScaledTanh", 1.5, 0.75), ("Softsign", *plain)]),
        "gru_after": lambda: Laid("GRU", 2, 2, 3, both, started=True),
        "gru_lengths": lambda: Laid("GRU", 2, 2, 3, ("reverse",), lengths=True, before_reset=1),
        "rnn_lengths": lambda: Laid("RNN", 2, 2, 3, both, lengths=True, activations=[("Affine", 0.5, 0.25)]),
        "rnn_layout": lambda: Laid("RNN", 2, 2, 3, both, started=True, layout=1, clip=1.0),
    }


def write_nodes(folder, keep, wanted):
    """(name, path, model, network, parameters) of each node."""
    for name, make in nodes().items():
        if not wanted(name):
            continue
        torch.manual_seed(21)
        module = make()
        path = pathlib.Path(folder) / f"{name}.node.onnx"
        if not (keep and path.exists()):
            module.write(path)
        model = onnx.load(path)
        names = [i.name for i in model.graph.initializer if i.name != "one"]
        # A parameter is a layer of its own where its name has no dot.
        yield f"{name}.node", path, model, module.network(), [(n, n, n, False) for n in names]


class Folded(Laid):
    """[`Last`] of one layer and direction with the weights as a folding exporter wrote them: in the order of ONNX's
    gates, the two biases as one."""

    def __init__(self, module, kind, arrays, steps):
        options = {"before_reset": 1} if kind == "GRU" else {}
        super().__init__(kind, arrays[0].shape[2], arrays[1].shape[2], steps, **options)
        for parameter, array in zip((self.W, self.R, self.B), arrays):
            parameter.data = torch.tensor(array)
        del self.head
        self.head = module.head

    def forward(self, x):
        return self.head(self.results(x)[0][:, -1].flatten(1))


def folded(module, model, steps):
    """A [`Folded`] of a file, and the parameters of the file."""
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    node = next(n for n in model.graph.node if n.op_type in Laid.GATES)
    inner = dict(zip(node.input[1:4], "WRB"))
    plain = Folded(module, node.op_type, [arrays[name] for name in inner], steps)
    parameters = []
    for initializer in model.graph.initializer:
        name = initializer.name
        if name in inner:
            parameters.append((name, node.name, inner[name], False))
        elif name.startswith("head."):
            parameters.append((name, "head", name, False))
    return plain, parameters
