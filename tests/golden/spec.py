"""What a golden network is made of."""

import dataclasses

import torch
import torch.nn as nn


@dataclasses.dataclass
class Tokens:
    """An input of whole numbers in 0..count; `padded` puts zeros at the end of some samples."""

    count: int
    shape: tuple
    padded: bool = False

    def draw(self, samples, generator):
        tokens = torch.randint(int(self.padded), self.count, (samples, *self.shape), generator=generator)
        if self.padded:
            for k in range(samples):
                tokens[k, self.shape[0] - k % (self.shape[0] - 1):] = 0
        return tokens


@dataclasses.dataclass
class Mask:
    """Truth values of positions: the first is hidden in every other sample, all are in the last but one."""

    length: int

    def draw(self, samples, generator):
        keep = torch.ones(samples, self.length, dtype=torch.bool)
        keep[::2, 0] = False
        keep[-2] = False
        return keep


@dataclasses.dataclass
class Blank:
    """Real numbers, and nothing but zeros in every other sample."""

    shape: tuple

    def draw(self, samples, generator):
        values = torch.randn((samples, *self.shape), generator=generator).double()
        values[::2] = 0
        return values


@dataclasses.dataclass
class Network:
    """A module with its inputs (name → shape of a sample, or Tokens) and its loss.

    `outputs` names the outputs of a module that gives several, `output` the one that the loss takes.
`variants` are exports beside the two that most networks have, `exports`.
    """

    module: nn.Module
    inputs: dict
    loss: str = "mse"
    reduction: str = "mean"
    options: dict = dataclasses.field(default_factory=dict)
    class_axis: int | None = None
    outputs: tuple = ()
    output: str | None = None
    variants: tuple = ()
    exports: tuple = ("new", "old")
    large: bool = False  # then three rows of G only
    tolerance: str | None = None  # where no run of the file is to say

    def draw(self, samples, generator):
        return tuple(
            spec.draw(samples, generator) if hasattr(spec, "draw")
            else torch.randn((samples, *spec), generator=generator).double()
            for spec in self.inputs.values())

    def chosen(self, outputs):
        return outputs[self.outputs.index(self.output)] if self.output else outputs


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x):
        return self.function(*x)


def module_of(part):
    return part if isinstance(part, nn.Module) else Apply(part)


class Between(nn.Module):
    """A part between two linear layers, given values in -1..1 of the shape (or several such shapes)."""

    def __init__(self, part, *shapes, width=3, out=2):
        super().__init__()
        self.shapes = shapes
        self.first = nn.ModuleList(nn.Linear(width, torch.Size(s).numel()) for s in shapes)
        self.part = module_of(part)
        self.head = nn.Identity()
        self.eval()
        with torch.no_grad():
            count = self(torch.zeros(1, width)).numel()
        self.head = nn.Linear(count, out)

    def forward(self, x):
        h = [torch.tanh(f(x)).reshape(x.shape[0], *s) for f, s in zip(self.first, self.shapes)]
        return self.head(torch.flatten(self.part(*h), 1))


def between(part, *shapes, width=3, out=2, loss="mse", **rest):
    return Network(Between(part, *shapes, width=width, out=out), {"x": (width,)}, loss, **rest)


def chain(shape, *parts, out=2, loss="mse", **rest):
    """Parts one after another on the input, then a linear layer."""
    module = nn.Sequential(*map(module_of, parts), nn.Flatten()).eval()
    with torch.no_grad():
        count = module(torch.zeros(1, *shape)).numel()
    module.append(nn.Linear(count, out))
    return Network(module, {"x": shape}, loss, **rest)


def sane(module):
    """Running statistics, scales and shifts of norms as after some training."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
        if "Norm" in type(part).__name__:
            if getattr(part, "weight", None) is not None:
                nn.init.normal_(part.weight, 1, 0.2)
            if getattr(part, "bias", None) is not None:
                nn.init.normal_(part.bias, 0, 0.3)
    return module
