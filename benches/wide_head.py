"""Writes networks with few parameters below an output of many classes, with data: `python wide_head.py FOLDER [--gpt]`.

`wide_V.onnx` is a table of 6 rows, a linear layer of 6 parameters, tanh, and a head of V classes at 3 positions of 4 samples.
`gpt.onnx` (with --gpt; 650 MB) has the size of GPT-2: 12 blocks of width 768, 50,257 classes, 64 positions, random weights.
BENCHMARKS.md says what they are timed for.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn


class Wide(nn.Module):
    def __init__(self, classes, width=2):
        super().__init__()
        self.e = nn.Embedding(6, width)
        self.a = nn.Linear(width, width)
        self.h = nn.Linear(width, classes, bias=False)

    def forward(self, tokens):
        return self.h(torch.tanh(self.a(self.e(tokens))))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        _, positions, width = x.shape
        each = width // self.heads
        split = lambda y: y.reshape(-1, positions, self.heads, each).transpose(1, 2)
        q, k, v = map(split, self.qkv(self.ln_1(x)).split(width, -1))
        later = torch.triu(torch.ones(positions, positions, dtype=torch.bool), 1)
        scores = (q @ k.transpose(-1, -2) / each**0.5).masked_fill(later, -1e9)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, positions, width)
        x = x + self.proj(mixed)
        return x + self.out(nn.functional.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, blocks=12, width=768, classes=50257, positions=64, heads=12):
        super().__init__()
        self.wte = nn.Embedding(classes, width)
        self.wpe = nn.Parameter(0.02 * torch.randn(positions, width))
        self.h = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.ln_f = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe
        for block in self.h:
            x = block(x)
        return self.head(self.ln_f(x))


def export(model, tokens, path):
    batch = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.onnx.export(model.eval(), (tokens,), dynamo=True, dynamic_shapes=batch)
    program.save(path, external_data=path.stem == "gpt")


def main():
    torch.manual_seed(0)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tokens = torch.randint(0, 6, (4, 3))
    np.save(folder / "wide_i.npy", tokens.numpy())
    for classes in (500, 1000, 2000, 4000, 50257):
        export(Wide(classes), tokens, folder / f"wide_{classes}.onnx")
        np.save(folder / f"wide_{classes}_t.npy", torch.randint(0, classes, (4, 3)).numpy())
    if "--gpt" in sys.argv:
        model = Gpt()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "ln_" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        for name in ("gpt_i", "gpt_t"):
            np.save(folder / f"{name}.npy", torch.randint(0, 50257, (2, 64)).numpy())
        export(model, torch.randint(0, 50257, (2, 64)), folder / "gpt.onnx")


main()
