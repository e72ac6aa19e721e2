"""Rows of attention that a mask covers wholly, kinks that the data lie on, and norms of nothing."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from spec import Blank, Mask, Network

EXPORTS = ("new_optimized", "new_newest", "new_opset18", "new_opset23", "new_opset24")


def exporting():
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


class Attend(nn.Module):
    """Two heads of width 2; `kind` says how the mask comes in."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 2)
        self.register_buffer("mask", torch.ones(3, 3, dtype=torch.bool).tril(-1))

    def forward(self, x, keep=None):
        n, length, _ = x.shape
        q, k, v = (a.view(n, length, 2, 2).transpose(1, 2) for a in self.qkv(x).chunk(3, -1))
        if self.kind == "truth":
            h = F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :])
        elif self.kind == "constant":
            h = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        elif not exporting():
            # What the file computes, and of which PyTorch has derivatives: those of the guard's NaN are NaN.
            pairs = keep[:, None, None, :] & keep[:, None, :, None]
            h = F.scaled_dot_product_attention(q, k, v, attn_mask=pairs, scale=0.5)
        else:
            pairs = keep[:, None, None, :] & keep[:, None, :, None]
            scores = q @ k.transpose(2, 3) * 0.5
            h = torch.nan_to_num(scores.masked_fill(~pairs, float("-inf")).softmax(-1), 0.0) @ v
        return torch.tanh(self.out(h.transpose(1, 2).reshape(n, length, 4)))


class Kinks(nn.Module):
    """Activations of what is exactly 0 for samples that are blank."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(3, 2, bias=False), nn.Linear(6, 2)

    def forward(self, x):
        h = self.first(x)
        return self.head(torch.cat([F.elu(h, 0.75), F.celu(h, 0.5), F.selu(h)], 1))


class Kernels(nn.Module):
    """e^(−‖x − c‖²) with a centre on the blank samples.

    The file has a norm and its square; the values are those of the sum of squares that this is.
    """

    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.stack([torch.zeros(3), torch.randn(3)]))
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        off = x.unsqueeze(1) - self.centres
        if exporting():
            squares = off.norm(dim=-1) ** 2
        else:
            squares = (off * off).sum(-1)
        return self.head(torch.exp(-squares))


def makers():
    """name → function that makes the network.

    The newer exporter writes the lowest finite number for −∞, behind a guard that then never fires: by itself the file
    averages what PyTorch makes 0, so that no run of it is the judge.
    """
    masked = {"x": (3, 4), "keep": Mask(3)}
    return {
        "masked_rows": lambda: Network(Attend("truth"), masked, variants=EXPORTS, tolerance="single"),
        "masked_rows_guarded": lambda: Network(Attend("guarded"), masked, variants=EXPORTS[:2]),
        "masked_rows_constant": lambda: Network(Attend("constant"), {"x": (3, 4)}, variants=EXPORTS[:2], tolerance="single"),
        "kinks": lambda: Network(Kinks(), {"x": Blank((3,))}),
        "norm_of_nothing": lambda: Network(Kernels(), {"x": Blank((3,))}, variants=EXPORTS[:1]),
    }
