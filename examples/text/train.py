"""Trains a small GPT on the characters of a text and exports it.

    python examples/text/train.py        # needs torch, onnx, onnxscript

Writes `tokens.npy` (windows of 16 characters of the text below) and `targets.npy` (the character after each),
both [windows, 16], and `model.onnx`, whose output is [windows, 16, characters].
"""

import pathlib
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

TEXT = """
a network maps an input and its weights to an output. the loss says how far the output is from what was wanted, and
training walks downhill on it. the gradient is the direction of the steepest slope; the hessian says how the slope
itself turns, weight by weight. a layer with few weights has a small block on the diagonal of the hessian, and two
layers share a rectangle beside it. most of what is known of the valley in which training ends, how wide it is, how
many directions are flat, which weights could be left out, is read from these blocks.
"""
ALPHABET = sorted(set(TEXT.strip().replace("\n", " ")))
LENGTH, WIDTH, HEADS = 16, 16, 2


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attend, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (a.view(n, t, HEADS, -1).transpose(1, 2) for a in self.attend(self.norm1(x)).split(d, dim=2))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(a.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Text(nn.Module):
    """Two causal blocks; the table of tokens is the last layer too, so that it is used twice."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(len(ALPHABET), WIDTH)
        self.places = nn.Parameter(0.1 * torch.randn(LENGTH, WIDTH))
        self.block1, self.block2 = Block(), Block()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places
        return F.linear(self.norm(self.block2(self.block1(x))), self.tokens.weight)


def make_model():
    return Text()


def main():
    from export import export

    torch.manual_seed(0)
    codes = torch.tensor([ALPHABET.index(c) for c in TEXT.strip().replace("\n", " ")])
    windows = codes.unfold(0, LENGTH + 1, 4)
    tokens, targets = windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
    model = make_model()
    nn.init.normal_(model.tokens.weight, 0, 0.3)
    steps = 400
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = model(tokens)
        loss = F.cross_entropy(outputs.transpose(1, 2), targets)
        loss.backward()
        optimizer.step()
        schedule.step()
    right = (outputs.argmax(2) == targets).float().mean()
    print(f"{len(tokens)} windows: loss {loss:.4f}, {100 * right:.1f} % right")
    np.save(HERE / "tokens.npy", tokens.numpy())
    np.save(HERE / "targets.npy", targets.numpy())
    export(model, {"tokens": f"{LENGTH}:int64<{len(ALPHABET)}"}, HERE / "model.onnx", output_names=["logits"])


if __name__ == "__main__":
    main()
