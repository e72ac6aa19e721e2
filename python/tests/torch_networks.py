"""Small versions of the networks that people have, for the tests of modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations


def lenet5() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(2, 3, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 4),
    )  # fmt: skip


def two_c2d() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, 4),
    )  # fmt: skip


def three_c3d() -> nn.Module:
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(
        nn.Conv2d(3, 2, 3), nn.ReLU(), pool, nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), pool, nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(),
        pool, nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4),
    )  # fmt: skip


def all_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(),
        nn.Conv2d(4, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 4))


class Basic(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)
        self.conv2, self.bn2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside)
        self.downsample = None
        if stride > 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + skip)


class ResNet(nn.Module):
    """A ResNet with a stem, two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 3, 1, 1, bias=False), nn.BatchNorm2d(3)
        self.layer1, self.layer2 = Basic(3, 3), Basic(3, 4, 2)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(h), 1))


class Vit(nn.Module):
    """A vision transformer of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.position = nn.Parameter(torch.randn(1, 5, 4))
        self.layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(x.shape[0], -1, -1), h], 1) + self.position
        return self.head(self.norm(self.layer(h))[:, 0])


class Text(nn.Module):
    """An embedding, the mean over the tokens that are not padding, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4, padding_idx=0)
        self.hidden, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = (x != 0).to(self.hidden.weight.dtype).unsqueeze(-1)
        h = (self.embedding(x) * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        return self.head(torch.relu(self.hidden(h)))


class Gpt(nn.Module):
    """A block of a GPT with causal attention and tied embeddings; [N, classes, T]."""

    def __init__(self, tokens: int = 7, width: int = 4, length: int = 5) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 6), nn.Linear(6, width)
        self.head = nn.Linear(width, tokens, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t = x.shape
        h = self.tokens(x) + self.positions(torch.arange(t, device=x.device))
        q, k, v = (part.view(n, t, 2, -1).transpose(1, 2) for part in self.attention(self.norm1(h)).chunk(3, -1))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.project(a.transpose(1, 2).reshape(n, t, -1))
        h = h + self.down(F.gelu(self.up(self.norm2(h)), approximate="tanh"))
        return self.head(self.norm3(h)).transpose(1, 2)


class Tied(nn.Module):
    """An embedding whose weight is the head's."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.mix, self.out = nn.Embedding(6, 3), nn.Linear(3, 3), nn.Linear(3, 6, bias=False)
        self.out.weight = self.emb.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.mix(self.emb(x).sum(1))))


class Attention(nn.Module):
    """`nn.MultiheadAttention` on itself, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Encoder(nn.Module):
    """`nn.TransformerEncoderLayer` with dropout, which evaluation leaves out, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.1, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x).mean(1))


class Lora(nn.Module):
    """A frozen layer and the trained product of two thin matrices beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(6, 5).requires_grad_(False)
        self.a, self.b = nn.Parameter(torch.randn(2, 6)), nn.Parameter(torch.randn(5, 2))
        self.norm = nn.LayerNorm(5).requires_grad_(False)
        self.head = nn.Linear(5, 3)
        self.head.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.norm(self.base(x) + x @ self.a.T @ self.b.T)))


def weight_norm() -> nn.Module:
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    parametrizations.weight_norm(module[0])
    return module


class Batch(nn.Module):
    """Its one argument is a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.numbers, self.head = nn.Embedding(6, 3), nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.head(torch.tanh(self.words(batch["words"]).mean(1) + self.numbers(batch["numbers"])))


@dataclass
class Case:
    """A network with the shape of its samples."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int
    tokens: int = 0
    """The number of tokens, for integer inputs; 0 for real ones."""
    positions: tuple[int, ...] = ()
    """The axes of the outputs beside the classes."""
    layers: tuple[str, str] = ("", "")
    """Two layers for blocks; by default the first and the last."""
    samples: int = 3

    def inputs(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        if self.tokens:
            made = torch.randint(1, self.tokens, (self.samples, *self.shape), generator=generator)
            made[1, self.shape[0] // 2 :] = 0
            return made
        return torch.randn(self.samples, *self.shape, generator=generator, dtype=torch.float64)

    def targets(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(6)
        return torch.randint(0, self.classes, (self.samples, *self.positions), generator=generator)


CASES: dict[str, Case] = {
    "lenet5": Case(lenet5, (1, 12, 12), 4, layers=("3", "7")),
    "2c2d": Case(two_c2d, (1, 8, 8), 4, layers=("0", "7")),
    "3c3d": Case(three_c3d, (3, 10, 10), 4, layers=("3", "10")),
    "all-cnn": Case(all_cnn, (3, 8, 8), 4, layers=("2", "6")),
    "mlp": Case(mlp, (1, 4, 4), 4, layers=("1", "3")),
    "resnet": Case(ResNet, (3, 6, 6), 4, layers=("layer1.bn1", "layer2.conv1")),
    "vit": Case(Vit, (1, 8, 8), 3, layers=("patches", "layer.linear1")),
    "text": Case(Text, (6,), 3, tokens=11, layers=("embedding", "hidden")),
    "gpt": Case(Gpt, (5,), 7, tokens=7, positions=(5,), layers=("tokens", "norm2"), samples=2),
    "tied embeddings": Case(Tied, (4,), 6, tokens=6, layers=("emb", "mix")),
    "multi-head attention": Case(Attention, (5, 4), 3, layers=("attention", "head")),
    "transformer encoder layer": Case(Encoder, (5, 4), 3, layers=("layer.self_attn", "layer.norm1")),
    "lora": Case(Lora, (6,), 3, layers=("a", "head")),
    "weight norm": Case(weight_norm, (5,), 3, layers=("0.parametrizations.weight", "2")),
}


def dictionary() -> tuple[nn.Module, dict[str, torch.Tensor], torch.Tensor]:
    """The module whose argument is a dictionary, with inputs and targets."""
    generator = torch.Generator().manual_seed(7)
    inputs: dict[str, Any] = {
        "words": torch.randint(0, 6, (3, 4), generator=generator),
        "numbers": torch.randn(3, 4, generator=generator, dtype=torch.float64),
    }
    return Batch(), inputs, torch.tensor([0, 2, 1])
