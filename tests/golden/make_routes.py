"""Networks that try which parameters may be moved through a pre-activation for the exact Hessian.

    python make_routes.py             # needs torch, onnx, onnxscript

Writes models/routes_NAME.onnx and data/routes_NAME.npz with inputs, targets (class indices) and H, the Hessian of the
mean cross-entropy in double precision, reverse over reverse, whole and in the order of the file. make_goldens.py
without --keep empties those folders: run this after it.
"""

import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "examples"))
from export import export  # noqa: E402

SAMPLES = 6


class Module(nn.Module):
    """A module of named parts and a function of them and x."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.compute = forward

    def forward(self, x):
        return self.compute(self, x)


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape) * 0.5)


def skip_twice(m, x):
    h = m.a(x)
    h = h + m.c(torch.tanh(m.b(torch.tanh(h))))
    return m.d(F.silu(h)) + m.s(x)


def squeeze(m, x):
    h = torch.tanh(m.conv(x))
    gate = torch.sigmoid(m.up(torch.relu(m.down(h.mean((2, 3), keepdim=True)))))
    return m.out((h * gate).flatten(1))


def heads(m, x):
    h = torch.tanh(m.trunk(x))
    return m.one(h) * torch.sigmoid(m.two(h)) + m.one(torch.sin(h))


NETWORKS = {
    # The input of a convolution of one window is itself a parameter.
    "learnt_image": (lambda: Module(
        lambda m, x: m.out(torch.tanh(m.a(x) + m.conv(m.image).flatten(1))),
        image=parameter(1, 2, 3, 3), conv=nn.Conv2d(2, 5, 3), a=nn.Linear(4, 5), out=nn.Linear(5, 3)), (4,)),
    "learnt_query": (lambda: Module(
        lambda m, x: m.out(torch.tanh(m.a(x) + m.b(m.query))),
        query=parameter(1, 6), b=nn.Linear(6, 5), a=nn.Linear(4, 5), out=nn.Linear(5, 3)), (4,)),
    "skip_twice": (lambda: Module(
        skip_twice, a=nn.Linear(4, 6), b=nn.Linear(6, 6), c=nn.Linear(6, 6), d=nn.Linear(6, 3), s=nn.Linear(4, 3)), (4,)),
    "added_to_input": (lambda: Module(
        lambda m, x: m.out(torch.tanh(m.a(x + m.p))), p=parameter(4), a=nn.Linear(4, 8), out=nn.Linear(8, 3)), (4,)),
    "used_twice": (lambda: Module(
        lambda m, x: m.out(torch.tanh(m.a(torch.tanh(m.a(x))))), a=nn.Linear(5, 5), out=nn.Linear(5, 3)), (5,)),
    "low_rank": (lambda: Module(
        lambda m, x: m.out(torch.tanh(F.linear(x, m.w + m.u @ m.v))),
        w=parameter(5, 4), u=parameter(5, 2), v=parameter(2, 4), out=nn.Linear(5, 3)), (4,)),
    "squeeze": (lambda: Module(
        squeeze, conv=nn.Conv2d(2, 4, 3), down=nn.Conv2d(4, 3, 1), up=nn.Conv2d(3, 4, 1), out=nn.Linear(16, 3)), (2, 4, 4)),
    "two_heads": (lambda: Module(heads, trunk=nn.Linear(4, 6), one=nn.Linear(6, 3), two=nn.Linear(6, 3)), (4,)),
    "whole_transpose": (lambda: Module(
        lambda m, x: m.out(torch.tanh(m.t(torch.tanh(m.a(x))[:, :, None, None])).flatten(1)),
        a=nn.Linear(4, 5), t=nn.ConvTranspose2d(5, 2, 3), out=nn.Linear(18, 3)), (4,)),
}


def hessian(module, parameters, x, y):
    named = dict(module.named_parameters())
    values = [named[p["module"]].detach() for p in parameters]

    def loss(w):
        pieces = torch.split(w, [v.numel() for v in values])
        weights = {p["module"]: piece.reshape(v.shape) for p, piece, v in zip(parameters, pieces, values)}
        return F.cross_entropy(torch.func.functional_call(module, weights, (x,)), y)

    return torch.autograd.functional.hessian(loss, torch.cat([v.reshape(-1) for v in values]))


for seed, (name, (make, shape)) in enumerate(NETWORKS.items()):
    torch.manual_seed(seed)
    module = make().eval()
    mapping = export(module, shape, str(HERE / "models" / f"routes_{name}.onnx"))
    x, y = torch.randn(SAMPLES, *shape), torch.randint(0, 3, (SAMPLES,))
    matrix = hessian(module.double(), mapping["parameters"], x.double(), y)
    np.savez_compressed(HERE / "data" / f"routes_{name}.npz", inputs=x.numpy(), targets=y.numpy(), H=matrix.numpy())
    print(name, tuple(matrix.shape))
for left in (HERE / "models").glob("routes_*.json"):
    left.unlink()
