"""The small networks of the golden values: between them they use every operation that is supported."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SLOPE = float(np.float32(0.01))  # ONNX stores attributes in single precision
EPSILON = float(np.float32(1e-5))


class Mlp(nn.Module):
    def __init__(self, sizes, activation, bias=True):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=bias) for a, b in zip(sizes, sizes[1:]))
        self.activation = activation

    def forward(self, x):
        for k, layer in enumerate(self.layers):
            x = layer(x)
            if k + 1 < len(self.layers):
                x = self.activation[k % len(self.activation)](x)
        return x


class Residual(nn.Module):
    """Residual sum, learned addend and factor, constants subtracted, multiplied and divided by."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.second = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)
        self.shift = nn.Parameter(torch.randn(5))
        self.scale = nn.Parameter(1 + 0.3 * torch.randn(1, 5))

    def forward(self, x):
        h = torch.tanh(self.first(x))
        h = h + torch.sigmoid(self.second(h) * self.scale - self.shift)
        return (1.5 - self.head(h * 0.75)) / 2.0


class Convolutions(nn.Module):
    """Stride, padding of each side, dilation, groups; one convolution has no bias."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0))
        self.grouped = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2, bias=False)
        self.uneven = nn.Conv2d(4, 2, 2, padding="same")
        self.head = nn.Linear(2 * 4 * 5, 3)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        x = torch.relu(self.grouped(x))
        x = F.elu(self.uneven(x))
        return self.head(torch.flatten(x, 1))


class OneDimensional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(1, 3, 3, stride=2, padding=1)
        self.second = nn.Conv1d(3, 2, 2, padding="same", dilation=2)
        self.head = nn.Linear(10, 2)

    def forward(self, x):
        x = torch.tanh(self.first(x.unsqueeze(1)))
        x = F.max_pool1d(x, 3, stride=2, padding=1, ceil_mode=True)
        x = F.softplus(self.second(x))
        return self.head(F.pad(x, (1, 1)).reshape(x.size(0), -1))


class Pools(nn.Module):
    """Both pools with ceil mode, padding that counts and that does not, dilation."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 2)
        self.head = nn.Linear(27, 3)

    def forward(self, x):
        x = torch.tanh(self.conv(x))
        a = F.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)
        b = F.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)
        c = F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)
        d = F.max_pool2d(x, 2, stride=1, dilation=3)
        e = F.avg_pool2d(a + b * c, (2, 2), stride=1)
        return self.head(torch.flatten(e, 1)) + d.mean((1, 2, 3), keepdim=True).flatten(1)


class Norms(nn.Module):
    """Batch norms at inference (not right behind a convolution, where exporters would fuse them), dropout."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3, eps=EPSILON)
        self.lin = nn.Linear(3, 4)
        self.norm1 = nn.BatchNorm1d(4, eps=EPSILON)
        self.head = nn.Linear(4, 3)
        self.dropout = nn.Dropout(0.4)
        for norm in (self.norm, self.norm1):
            nn.init.normal_(norm.weight, 1, 0.2)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = self.norm(torch.relu(self.conv(x)))
        x = F.adaptive_avg_pool2d(torch.tanh(x), 1)
        x = self.dropout(self.norm1(torch.tanh(self.lin(torch.flatten(x, 1)))))
        return self.head(x)


class FusedNorm(nn.Module):
    """A batch norm right behind a convolution: exporters that optimise multiply it into the weights."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)
        self.norm = nn.BatchNorm2d(2, eps=EPSILON)
        self.head = nn.Linear(8, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.norm.weight, 1, 0.2)
        nn.init.normal_(self.norm.bias)

    def forward(self, x):
        return self.head(torch.flatten(torch.relu(self.norm(self.conv(x))), 1))


class LeNet(nn.Module):
    """LeNet-5 in small."""

    def __init__(self, activation=torch.tanh):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.conv2 = nn.Conv2d(2, 3, 2)
        self.fc1 = nn.Linear(12, 7)
        self.fc2 = nn.Linear(7, 6)
        self.fc3 = nn.Linear(6, 4)
        self.activation = activation

    def forward(self, x):
        x = F.max_pool2d(self.activation(self.conv1(x)), 2)
        x = F.max_pool2d(self.activation(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        x = self.activation(self.fc1(x))
        x = self.activation(self.fc2(x))
        return self.fc3(x)


class Positions(nn.Module):
    """[N, T, D]: positions on an axis of their own, merged with the samples, and transposed."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)
        self.merged = nn.Linear(3, 3)
        self.across = nn.Linear(5, 2, bias=False)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        n, t, _ = x.shape
        h = torch.tanh(self.inner(x))
        h = torch.tanh(self.merged(h.reshape(n * t, 3))).reshape(n, t, 3)
        h = self.across(h.transpose(1, 2))
        return self.head(h.permute(0, 2, 1).reshape(n, -1))


class SequenceFirst(nn.Module):
    """[T, N, D] inside: a transpose moves the axis of the samples there and back."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        h = torch.tanh(self.inner(x.transpose(0, 1)))
        return self.head(h.transpose(0, 1).mean(1))


class LeftWeight(nn.Module):
    """A weight on the left of a product, and products scaled by addmm."""

    def __init__(self):
        super().__init__()
        self.left = nn.Parameter(torch.randn(3, 5) / 2)
        self.vector = nn.Parameter(torch.randn(4))
        self.weight = nn.Parameter(torch.randn(3, 4))
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x):
        h = torch.tanh(torch.matmul(self.left, x))  # [N, 3, 4]
        h = torch.matmul(h, self.vector)  # [N, 3]
        return torch.addmm(self.bias, torch.sigmoid(h), self.weight, beta=0.5, alpha=2.0)


class PerPosition(nn.Module):
    """Outputs with positions: [N, C, T]."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3, padding=1)
        self.head = nn.Conv1d(4, 3, 1)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x)))


class Joined(nn.Module):
    """A learned token expanded over the samples and joined, a mean, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 3))
        self.twice = nn.Linear(3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        x = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        return self.head(x.mean(1))


def networks():
    """name → (module, input shape per sample, loss name, reduction, options)."""
    torch.manual_seed(20261)
    leaky = lambda x: F.leaky_relu(x, SLOPE)
    ce, mse, bce = "cross_entropy", "mse", "bce"
    weights = {"class_weights": [0.5, 2.0, 1.25]}
    return {
        "mlp_tanh": (Mlp([5, 4, 3], [torch.tanh]), (5,), ce, "mean", {}),
        "mlp_relu": (Mlp([5, 6, 4, 3], [torch.relu], bias=False), (5,), ce, "sum", weights),
        "mlp_smooth": (
            Mlp([4, 5, 4, 3, 2], [torch.sigmoid, F.softplus, F.elu]), (4,), mse, "mean", {},
        ),
        "mlp_leaky": (Mlp([3, 6, 5, 2], [leaky]), (3,), mse, "sum", {}),
        "residual": (Residual(), (4,), bce, "mean", {"pos_weight": [1.5, 0.5, 3.0]}),
        "convolutions": (
            Convolutions(), (2, 7, 6), ce, "mean", {**weights, "label_smoothing": 0.1},
        ),
        "one_dimensional": (OneDimensional(), (9,), mse, "mean", {}),
        "pools": (Pools(), (1, 7, 7), ce, "mean", {"probabilities": True, **weights}),
        "norms": (Norms(), (1, 5, 5), ce, "sum", {"probabilities": True, "label_smoothing": 0.2}),
        "fused_norm": (FusedNorm(), (1, 3, 3), ce, "mean", {}),
        "lenet_tanh": (LeNet(), (1, 13, 15), ce, "mean", {"label_smoothing": 0.05}),
        "lenet_relu": (LeNet(torch.relu), (1, 13, 15), ce, "mean", {"ignore_index": 2}),
        "positions": (Positions(), (5, 4), mse, "sum", {}),
        "sequence_first": (SequenceFirst(), (3, 3), bce, "sum", {}),
        "left_weight": (LeftWeight(), (5, 4), ce, "mean", {"ignore_index": -100}),
        "per_position": (
            PerPosition(), (2, 5), ce, "mean", {**weights, "ignore_index": 1},
        ),
        "joined": (Joined(), (4, 3), bce, "mean", {}),
    }
