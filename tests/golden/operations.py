"""Small networks around one operation each: everything that PyTorch's exporters write for them."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from networks import EPSILON, Mlp
from spec import Network, between, chain, sane

ALL = ("new_optimized", "old_folded", "new_newest")
ONE = ("new_one", "old_one")
SIXTH = float(torch.tensor(1 / 6))


def hard_sigmoid(x):
    """F.hardsigmoid, in double precision (where it lacks a derivative) with the slope that files have."""
    return torch.clamp(x * SIXTH + 0.5, 0, 1) if x.dtype == torch.float64 else F.hardsigmoid(x)


def tracked(norm):
    """An instance norm with running statistics as after some training."""
    norm.running_mean.normal_(0, 0.3)
    norm.running_var.uniform_(0.5, 2)
    return sane(norm)


ACTIVATIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": lambda x: F.elu(x, 1.5),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 1.5),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": hard_sigmoid,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.25),
    "relu6": F.relu6,
    "softplus": F.softplus,
    "softplus_beta": lambda x: F.softplus(x, beta=2),
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.125),
    "tanhshrink": F.tanhshrink,
    "hardshrink": lambda x: F.hardshrink(x, 0.25),
    "softshrink": lambda x: F.softshrink(x, 0.25),
    "threshold": lambda x: F.threshold(x, 0.125, -0.5),
    "softmin": lambda x: F.softmin(x, 1),
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
}
ACTIVATION_VARIANTS = {
    "gelu": ALL, "gelu_tanh": ALL, "silu": ALL, "mish": ALL, "softmax": ALL, "hardswish": ("new_newest",),
    "celu": ("new_newest",), "selu": ("new_newest",), "logsigmoid": ("old_folded",),
}

# One or several activations in, h between -1 and 1.
FUNCTIONS = {
    "glu": lambda h: F.glu(h, 1),
    "exp": torch.exp,
    "log": lambda h: torch.log(h + 1.5),
    "sqrt": lambda h: torch.sqrt(h + 1.5),
    "rsqrt": lambda h: torch.rsqrt(h + 1.5),
    "reciprocal": lambda h: torch.reciprocal(h + 1.5),
    "abs": torch.abs,
    "neg": torch.neg,
    "square": torch.square,
    "pow_2": lambda h: h ** 2,
    "pow_3": lambda h: h ** 3,
    "pow_half": lambda h: (h + 1.5) ** 0.5,
    "pow_minus": lambda h: (h + 1.5) ** -1.5,
    "pow_inexact": lambda h: (h + 1.5) ** 2.75,
    "base_2": lambda h: 2.0 ** h,
    "erf": torch.erf,
    "sin_cos": lambda h: torch.sin(h) * torch.cos(2 * h),
    "log1p_expm1": lambda h: torch.log1p(torch.exp(h)) + torch.expm1(h),
    "circular": lambda h: torch.tan(h) * torch.atan(2 * h) + torch.asin(0.75 * h) - torch.acos(0.5 * h) ** 2,
    "hyperbolic": lambda h: torch.sinh(h) * torch.cosh(2 * h) + torch.atanh(0.75 * h),
    "inverse_hyperbolic": lambda h: torch.asinh(3 * h) * torch.acosh(h + 2.5),
    "whole_parts": lambda h: h * torch.floor(4 * h) + torch.round(4 * h) * h ** 2 - h * torch.ceil(3 * h),
    "fourier": lambda h: torch.view_as_real(torch.fft.rfft(h, dim=1)).square().sum(-1),
    "clamp": lambda h: torch.clamp(h, -0.25, 0.5),
    "clamp_min": lambda h: torch.clamp(h, min=-0.25),
    "clamp_max": lambda h: torch.clamp(h, max=0.25),
    "where_constant": lambda h: torch.where(torch.tensor([True, False, True, True, False, True]), h, 0.5),
    "where_compared": lambda h: torch.where(h > 0.125, h * h, -h),
    "masked_fill": lambda h: h.masked_fill(torch.tensor([True, False, False, True, False, False]), -0.75),
    "halves": lambda h: h[:, :3] / (h[:, 3:] + 1.5) - 0.5 * h[:, 3:],
}
PAIRS = {
    "multiplied": lambda a, b: a * b,
    "divided": lambda a, b: a / (b + 2),
    "subtracted": lambda a, b: 1 - (a - b),
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    "clamped_by": lambda a, b: torch.clamp(a, min=b - 0.5),
    "where_pair": lambda a, b: torch.where(a < b, a * b, a - b),
    "where_logic": lambda a, b: torch.where((a < b) & ~(a > 0.5) | (b >= 0.75), a, b),
    "powers": lambda a, b: torch.sqrt(a ** 2 + b ** 2 + 0.5),
    "lerp": lambda a, b: torch.lerp(a, b, 0.25),
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.5),
    "stack": lambda a, b: torch.stack([a, b], 1).flip(1),
    "stack_last": lambda a, b: torch.stack([a, b, a], -1).amax(-1),
    "cosine": lambda a, b: F.cosine_similarity(a, b).unsqueeze(1),
    "bilinear_form": lambda a, b: (a * b).sum(1, keepdim=True).exp(),
    "outer": lambda a, b: a.unsqueeze(2) * b.unsqueeze(1),
    "distance": lambda a, b: ((a - b) ** 2).sum(1, keepdim=True).sqrt(),
}
RANKED = {  # on [N, 2, 4, 3]
    "slice_middle": lambda h: h[:, :, 1:3],
    "slice_steps": lambda h: h[..., ::2],
    "slice_last": lambda h: h[:, :, -1],
    "slice_both": lambda h: h[:, 1:, 1:-1, :2],
    "flip": lambda h: h.flip(2, 3) * torch.arange(1.0, 4.0),
    "roll": lambda h: torch.roll(h, (1, -1), (2, 3)) * h,
    "split": lambda h: torch.cat([a * (k + 1) for k, a in enumerate(torch.split(h, [1, 2, 1], 2))], 2),
    "chunk": lambda h: (lambda a, b: a * torch.sigmoid(b))(*h.chunk(2, 2)),
    "unbind": lambda h: (lambda a, b: a @ b.transpose(1, 2))(*h.unbind(1)),
    "index_select": lambda h: torch.index_select(h, 2, torch.tensor([3, 0, 0, 2])),
    "index_list": lambda h: h[:, :, [2, 0, 1, 1]],
    "index_pairs": lambda h: h[:, :, [0, 2, 3], [1, 1, 2]],
    "gather": lambda h: torch.gather(
        h, 2, torch.tensor([[0, 3, 1], [2, 2, 0]]).expand(h.shape[0], 2, 2, 3)),
    "tile": lambda h: h.repeat(1, 2, 1, 2) * torch.arange(1.0, 7.0),
    "expand": lambda h: h[:, :1].expand(-1, 3, -1, -1) * torch.arange(1.0, 4.0)[:, None, None],
    "repeat_interleave": lambda h: h.repeat_interleave(2, 3),
    "movedim": lambda h: h.movedim(1, 3).flatten(2) * torch.arange(1.0, 7.0),
    "squeezed": lambda h: h[:, :1].squeeze(1).unsqueeze(-1),
    "unflatten": lambda h: h.flatten(1).unflatten(1, (6, 4)).transpose(1, 2),
    "bicubic": lambda h: F.interpolate(h, size=(3, 5), mode="bicubic") ** 2,
    "bicubic_corners": lambda h: F.interpolate(h, scale_factor=2, mode="bicubic", align_corners=True),
    "folded_patches": lambda h: F.fold(F.unfold(h, 2, padding=1) ** 2, (4, 3), 2, padding=1),
    "pad_zero": lambda h: torch.tanh(F.pad(h, (1, 0, 0, 2))) + 1,
    "pad_half": lambda h: F.pad(h, (1, 2), value=0.5) ** 2,
    "pad_channel": lambda h: F.pad(h, (0, 0, 0, 0, 1, 1), value=-0.25) ** 2,
    "pad_reflect": lambda h: F.pad(h, (1, 2, 2, 1), mode="reflect") * torch.arange(1.0, 7.0),
    "pad_replicate": lambda h: F.pad(h, (1, 2, 0, 1), mode="replicate") * torch.arange(1.0, 7.0),
    "pad_circular": lambda h: F.pad(h, (1, 2, 2, 0), mode="circular") * torch.arange(1.0, 7.0),
    "pad_negative": lambda h: F.pad(h, (-1, 0, 1, -2)) + 0.5,
    "mean_axes": lambda h: h.mean((1, 3)),
    "mean_kept": lambda h: h * h.mean((2, 3), keepdim=True),
    "sum_axes": lambda h: torch.tanh(h.sum((1, -1))),
    "sum_all": lambda h: h.flatten(1).sum(1, keepdim=True).exp(),
    "amax": lambda h: h.amax((2, 3)),
    "max_axis": lambda h: h.max(2).values,
    "min_axis": lambda h: h.amin(-1, keepdim=True) * h,
    "logsumexp": lambda h: torch.logsumexp(h, (2, 3)),
    "prod": lambda h: (h + 1.5).prod(3),
    "var": lambda h: h.var(3),
    "std": lambda h: torch.std(h, (2, 3), correction=0),
    "standardized": lambda h: (h - h.mean(3, keepdim=True)) / (h.std(3, keepdim=True) + 0.5),
    "norm": lambda h: h.norm(dim=2),
    "norm_1": lambda h: h.norm(p=1, dim=2),
    "normalize": lambda h: F.normalize(h, dim=3),
    "normalize_2": lambda h: h / h.norm(dim=(2, 3), keepdim=True),
    "softmax_axis": lambda h: h.softmax(2) * h,
    "softmax_2d": lambda h: h.flatten(2).softmax(-1),
    "log_softmax_axis": lambda h: h.log_softmax(1),
    "cumsum_constant": lambda h: h * torch.cumsum(torch.full((4, 3), 0.5), 0),
    "cumsum": lambda h: torch.cumsum(h, 2),
    "tril": lambda h: torch.tril(h, -1) + torch.triu(h, 1) * 2,
    "tril_mask": lambda h: h.masked_fill(torch.tril(torch.ones(4, 3)) == 0, -1.0),
    "transposed_matmul": lambda h: h @ h.transpose(2, 3),
    "matmul_constant": lambda h: h @ (torch.arange(6.0).reshape(3, 2) / 4).to(h.dtype),
}
SPATIAL = {  # on [N, 2, 4, 6] unless said
    "nearest_scale": lambda h: F.interpolate(h, scale_factor=2, mode="nearest"),
    "nearest_size": lambda h: F.interpolate(h, size=(6, 5), mode="nearest"),
    "nearest_down": lambda h: F.interpolate(h, size=(2, 3), mode="nearest"),
    "nearest_exact": lambda h: F.interpolate(h, scale_factor=2, mode="nearest-exact"),
    "bilinear_scale": lambda h: F.interpolate(h, scale_factor=2, mode="bilinear"),
    "bilinear_aligned": lambda h: F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=True),
    "bilinear_size": lambda h: F.interpolate(h, size=(7, 9), mode="bilinear"),
    "bilinear_size_aligned": lambda h: F.interpolate(h, size=(7, 9), mode="bilinear", align_corners=True),
    "bilinear_down": lambda h: F.interpolate(h, size=(2, 3), mode="bilinear"),
    "pixel_shuffle": lambda h: F.pixel_shuffle(h.reshape(-1, 4, 2, 6), 2),
    "pixel_unshuffle": lambda h: F.pixel_unshuffle(h, 2),
    "channel_shuffle": lambda h: F.channel_shuffle(h.reshape(-1, 6, 2, 4), 2),
    "unfold": lambda h: F.unfold(h, 2, stride=2),
    "max_global": lambda h: F.adaptive_max_pool2d(h, 1),
    "max_global_amax": lambda h: F.max_pool2d(h, (4, 6)),
    "adaptive_average": lambda h: F.adaptive_avg_pool2d(h, (2, 3)),
    "adaptive_average_1": lambda h: F.adaptive_avg_pool2d(h, 1),
    "adaptive_max": lambda h: F.adaptive_max_pool2d(h, (2, 3)),
    "max_odd": lambda h: F.max_pool2d(h, (2, 3), stride=(1, 3)),
    "max_ceil": lambda h: F.max_pool2d(h, 3, stride=2, ceil_mode=True),
    "max_padded": lambda h: F.max_pool2d(h, 3, stride=(2, 3), padding=1),
    "average_odd": lambda h: F.avg_pool2d(h, (3, 2), stride=(1, 3)),
    "average_ceil": lambda h: F.avg_pool2d(h, 3, stride=2, ceil_mode=True),
    "average_counted": lambda h: F.avg_pool2d(h, 3, stride=(2, 3), padding=1, count_include_pad=True),
    "average_uncounted": lambda h: F.avg_pool2d(h, 3, stride=(2, 3), padding=1, count_include_pad=False),
    "lp_pool": lambda h: F.lp_pool2d(h, 2, 2),
    "local_response": lambda h: F.local_response_norm(h, 3, alpha=0.5, beta=0.75, k=1.0),
}
EINSUMS = {
    "einsum_bqd_bkd": ("bqd,bkd->bqk", (3, 2), (4, 2)),
    "einsum_heads": ("bhqk,bkhd->bqhd", (2, 3, 2), (2, 2, 3)),
    "einsum_scores": ("bqhd,bkhd->bhqk", (3, 2, 2), (2, 2, 2)),
    "einsum_hadamard": ("bij,bij->bi", (3, 2), (3, 2)),
    "einsum_outer": ("bi,bj->bij", (3,), (4,)),
}


class Einsum(nn.Module):
    """A parameter contracted by einsum; operands in either order."""

    def __init__(self, equation, size, left=False):
        super().__init__()
        self.equation, self.left = equation, left
        self.weight = nn.Parameter(torch.randn(*size) / 2)

    def forward(self, x):
        operands = (self.weight, x) if self.left else (x, self.weight)
        return torch.tanh(torch.einsum(self.equation, *operands))


class Broadcast(nn.Module):
    """Learned scale and shift that broadcast over axes in the middle, the end, and everywhere."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(2, 1, 3))
        self.shift = nn.Parameter(torch.randn(4, 1))
        self.power = nn.Parameter(torch.rand(1) + 0.5)
        self.bottom = nn.Parameter(torch.rand(3) + 1)

    def forward(self, h):
        return (h * self.scale - self.shift) / self.bottom * self.power


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.bilinear = nn.Bilinear(3, 2, 2)

    def forward(self, a, b):
        return self.bilinear(a, b)


class Affine(nn.Module):
    """A norm without affine part, written out, with learned scale and shift."""

    def __init__(self, size):
        super().__init__()
        self.scale = nn.Parameter(1 + torch.randn(size) / 4)
        self.shift = nn.Parameter(torch.randn(size) / 4)

    def forward(self, x):
        center = x - x.mean(-1, keepdim=True)
        return center * torch.rsqrt((center ** 2).mean(-1, keepdim=True) + 0.125) * self.scale + self.shift


class Root(nn.Module):
    """The RMS norm as language models write it."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(1 + torch.randn(size) / 4)

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 0.125))


class WeightNormal(nn.Module):
    """A weight computed from parameters: direction and length."""

    def __init__(self):
        super().__init__()
        self.direction = nn.Parameter(torch.randn(3, 4))
        self.length = nn.Parameter(torch.rand(3, 1) + 0.5)

    def forward(self, x):
        return F.linear(x, self.length * self.direction / self.direction.norm(dim=1, keepdim=True))


def exports(name):
    """The older exporter lacks some."""
    lacking = ("threshold", "log1p_expm1", "nearest_exact", "channel_shuffle", "local_response")  # or an If
    return ("new",) if name in lacking else ("new", "old")


def slopes(count):
    """A PRelu whose slopes differ."""
    module = nn.PReLU(count)
    nn.init.uniform_(module.weight, 0.05, 0.5)
    return module


def linears(f, bias):
    return Mlp([3, 4, 3, 2], [f], bias=bias)


def makers():
    """name → function that makes the network."""
    made = {}
    for name, f in ACTIVATIONS.items():
        for bias in (True, False):
            loss = ["mse", "bce", "cross_entropy"][len(made) % 3]
            made[f"act_{name}" + ("" if bias else "_nobias")] = lambda f=f, bias=bias, loss=loss, name=name: (
                Network(linears(f, bias), {"x": (3,)}, loss,
                        variants=ACTIVATION_VARIANTS.get(name, ()) if bias else (), exports=exports(name)))
    made |= {
        "act_prelu": lambda: Network(
            Mlp([3, 4, 3, 2], nn.ModuleList([nn.PReLU(init=0.25), nn.PReLU(init=0.125)])), {"x": (3,)}),
        "act_prelu_channels": lambda: chain((2, 4, 4), nn.Conv2d(2, 3, 2), slopes(3),
                                            nn.Conv2d(3, 2, 2, bias=False), slopes(2), variants=ALL),
        "act_prelu_features": lambda: Network(
            Mlp([3, 4, 3, 2], nn.ModuleList([slopes(4), slopes(3)])), {"x": (3,)},
            "cross_entropy"),
    }
    more = {"where_compared": ("new_optimized", "old_folded"), "clamp": ("new_optimized", "old_folded"),
            "pow_2": ("old_folded",), "split": ALL, "slice_both": ALL, "pad_half": ALL, "pad_negative": ALL,
            "bilinear_scale": ALL, "nearest_scale": ALL, "normalize": ALL, "var": ALL, "mean_kept": ALL,
            "softmax_axis": ALL, "roll": ("new_optimized",), "chunk": ALL, "tril": ALL, "index_pairs": ALL,
            "bilinear_size_aligned": ("new_optimized",), "expand": ALL, "pixel_shuffle": ALL,
            "adaptive_average": ALL, "cumsum_constant": ALL, "logsumexp": ALL, "unfold": ("new_optimized",)}
    for name, f in FUNCTIONS.items():
        made[f"fn_{name}"] = lambda f=f, name=name: between(
            f, (6,), variants=more.get(name, ()), exports=exports(name))
    for name, f in PAIRS.items():
        made[f"pair_{name}"] = lambda f=f, name=name: between(f, (4,), (4,), variants=more.get(name, ()))
    for name, f in RANKED.items():
        made[f"rank_{name}"] = lambda f=f, name=name: between(
            f, (2, 4, 3), width=2, variants=more.get(name, ()))
    for name, f in SPATIAL.items():
        made[f"space_{name}"] = lambda f=f, name=name: between(
            f, (2, 4, 6), width=1, out=1, variants=more.get(name, ()), exports=exports(name))
    for name, (equation, *shapes) in EINSUMS.items():
        made[name] = lambda e=equation, s=shapes: between(
            lambda a, b: torch.einsum(e, a, b), *s, variants=("new_optimized", "old_folded"))
    made |= {
        "einsum_bi_oi": lambda: chain((3,), Einsum("bi,oi->bo", (4, 3)), variants=ALL),
        "einsum_bci_coi": lambda: chain((2, 3), Einsum("bci,coi->bco", (2, 4, 3)), variants=ALL),
        "einsum_left": lambda: chain((3, 2), Einsum("oi,bik->bok", (4, 3), left=True)),
        "einsum_all": lambda: chain((2, 3), Einsum("bci,cio->bo", (2, 3, 4))),
        "einsum_three": lambda: chain((2, 3), Einsum("...i,io->...o", (3, 2))),
        "matmul_pair": lambda: between(lambda a, b: a @ b, (3, 2), (2, 3)),
        "matmul_heads": lambda: between(lambda a, b: a @ b.transpose(-1, -2), (2, 3, 2), (2, 2, 2)),
        "matmul_broadcast": lambda: between(lambda a, b: a @ b.unsqueeze(1), (2, 3, 2), (2, 3)),
        "matmul_vector": lambda: between(lambda a, b: (a @ b.unsqueeze(-1)).squeeze(-1), (3, 2), (2,)),
        "bmm": lambda: between(torch.bmm, (3, 2), (2, 3), variants=ALL),
        "baddbmm": lambda: between(
            lambda a, b, c: torch.baddbmm(c, a, b, beta=0.5, alpha=2), (3, 2), (2, 3), (3, 3)),
        "linear_extra": lambda: chain((2, 3, 4), nn.Linear(4, 3), torch.tanh, nn.Linear(3, 2, bias=False),
                                      variants=ALL),
        "linear_outputs": lambda: Network(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)),
                                          {"x": (3, 4)}, "bce"),
        "class_axis_last": lambda: Network(
            nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)), {"x": (2, 4)}, "cross_entropy",
            "sum", {"class_weights": [0.5, 2.0, 1.25], "ignore_index": -1}, class_axis=-1, variants=ALL),
        "class_axis_images": lambda: Network(
            nn.Sequential(nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Conv2d(3, 3, 1)), {"x": (1, 3, 4)},
            "cross_entropy", "mean", {"label_smoothing": 0.125}),
        "class_axis_smooth": lambda: Network(
            nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 4)), {"x": (3, 4)}, "cross_entropy",
            "mean", {"label_smoothing": 0.125}, class_axis=-1),
        "broadcast": lambda: between(Broadcast(), (2, 4, 3), width=2),
        "bilinear_layer": lambda: between(Bilinear(), (3,), (2,), exports=("new",)),
        "weight_norm": lambda: chain((4,), WeightNormal(), torch.tanh),
    }
    # Convolutions of every rank, plain, grouped and transposed.
    convolutions = {1: (nn.Conv1d, nn.ConvTranspose1d, (7,)), 2: (nn.Conv2d, nn.ConvTranspose2d, (4, 3)),
                    3: (nn.Conv3d, nn.ConvTranspose3d, (3, 2, 3))}
    for rank, (forth, back, size) in convolutions.items():
        made |= {
            f"conv{rank}d": lambda f=forth, size=size: chain((2, *size), f(2, 2, 2), torch.tanh),
            f"conv{rank}d_strided": lambda f=forth, size=size, rank=rank: chain(
                (1, *size), f(1, 3, 2, stride=2, padding=1), torch.tanh, f(3, 2, 1, bias=rank == 3)),
            f"conv{rank}d_grouped": lambda f=forth, size=size: chain(
                (4, *size), f(4, 4, 2, groups=2), torch.tanh),
            f"conv{rank}d_depthwise": lambda f=forth, size=size, rank=rank: chain(
                (2, *size), f(2, 4, 2, padding=1, groups=2, bias=rank == 3), torch.tanh, out=1),
            f"transposed{rank}d": lambda f=back, size=size: chain((2, *size), f(2, 2, 2), torch.tanh),
            f"transposed{rank}d_strided": lambda f=back, size=size: chain(
                (1, *size), f(1, 2, 3, stride=2, padding=1, output_padding=1), torch.tanh, out=1),
            f"transposed{rank}d_dilated": lambda f=back, size=size: chain(
                (2, *size), f(2, 1, 2, dilation=2, padding=1, bias=False), torch.tanh),
            f"transposed{rank}d_grouped": lambda f=back, size=size: chain(
                (4, *size), f(4, 2, 2, groups=2), torch.tanh, out=1),
        }
    made |= {
        "transposed2d_uneven": lambda: chain(
            (2, 3, 2), nn.ConvTranspose2d(2, 3, (2, 3), stride=(3, 2), padding=(0, 1),
                                          output_padding=(1, 0), dilation=(2, 1)), torch.tanh, out=1,
            variants=ALL),
        "conv2d_padding_modes": lambda: chain(
            (1, 4, 4), nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), torch.tanh,
            nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), torch.tanh,
            nn.Conv2d(2, 1, 3, padding=1, padding_mode="replicate")),
        "conv2d_separable": lambda: chain(
            (2, 5, 5), nn.Conv2d(2, 2, 3, groups=2, padding=1, stride=2), nn.Conv2d(2, 4, 1), nn.SiLU(),
            nn.Conv2d(4, 4, (1, 3), groups=4), variants=ALL),
        "conv3d_nobias": lambda: chain(  # the new exporter writes a bias of another shape than ONNX has it
            (2, 3, 2, 3), nn.Conv3d(2, 2, 2, bias=False), torch.tanh, exports=("old",),
            variants=("new_optimized", "old_folded")),
        "pool3d_max": lambda: chain((1, 4, 4, 4), nn.Conv3d(1, 2, 2), torch.tanh,
                                    nn.MaxPool3d(2, stride=1), loss="cross_entropy", out=3),
        "pool3d_average": lambda: chain((1, 4, 4, 4), nn.Conv3d(1, 2, 2), torch.tanh,
                                        nn.AvgPool3d(3, stride=2, padding=1, count_include_pad=False)),
        "pool3d_adaptive": lambda: chain((1, 3, 3, 3), nn.Conv3d(1, 3, 2), torch.tanh,
                                         nn.AdaptiveAvgPool3d(1)),
        "pool1d_max": lambda: chain((1, 9), nn.Conv1d(1, 3, 2), torch.tanh,
                                    nn.MaxPool1d(3, stride=2, ceil_mode=True)),
        "pool1d_average": lambda: chain((1, 9), nn.Conv1d(1, 3, 2), torch.tanh,
                                        nn.AvgPool1d(3, stride=2, padding=1)),
        "pool1d_adaptive": lambda: chain((1, 9), nn.Conv1d(1, 3, 2), torch.tanh, nn.AdaptiveAvgPool1d(4)),
        "pool1d_adaptive_max": lambda: chain((1, 9), nn.Conv1d(1, 3, 2), torch.tanh,
                                             nn.AdaptiveMaxPool1d(1)),
        # Norms.
        "layer_norm": lambda: Network(sane(nn.Sequential(
            nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4, eps=EPSILON), nn.Linear(4, 2))), {"x": (3,)},
            variants=ALL),
        "layer_norm_plain": lambda: Network(nn.Sequential(
            nn.Linear(3, 4), nn.LayerNorm(4, elementwise_affine=False, eps=EPSILON), nn.Linear(4, 2)),
            {"x": (3,)}, variants=ALL),
        "layer_norm_nobias": lambda: Network(sane(nn.Sequential(
            nn.Linear(3, 4), nn.LayerNorm(4, bias=False, eps=EPSILON), nn.Linear(4, 2))), {"x": (2, 3)},
            variants=ALL),
        "layer_norm_axes": lambda: chain((2, 3), nn.Linear(3, 4), sane(nn.LayerNorm((2, 4), eps=EPSILON)),
                                         variants=ALL),
        "layer_norm_first": lambda: chain((5,), sane(nn.LayerNorm(5, eps=EPSILON)), nn.Linear(5, 4),
                                          torch.tanh),
        "layer_norm_written": lambda: chain((2, 3), nn.Linear(3, 4), Affine(4), nn.Linear(4, 3), torch.tanh),
        "group_norm": lambda: chain((1, 4, 4), nn.Conv2d(1, 4, 2), sane(nn.GroupNorm(2, 4, eps=EPSILON)),
                                    nn.ReLU(), variants=ALL),
        "group_norm_plain": lambda: chain(
            (1, 4, 4), nn.Conv2d(1, 4, 2), nn.GroupNorm(4, 4, affine=False, eps=EPSILON), torch.tanh,
            variants=("new_newest",)),
        "group_norm_one": lambda: chain((3, 4), nn.Conv1d(3, 4, 2), sane(nn.GroupNorm(1, 4, eps=EPSILON)),
                                        torch.tanh),
        "instance_norm_1d": lambda: chain(
            (2, 5), nn.Conv1d(2, 3, 2), sane(nn.InstanceNorm1d(3, affine=True, eps=EPSILON)), torch.tanh,
            variants=ALL),
        "instance_norm_2d": lambda: chain(
            (1, 4, 4), nn.Conv2d(1, 3, 2), sane(nn.InstanceNorm2d(3, affine=True, eps=EPSILON)),
            torch.tanh, variants=ALL),
        "instance_norm_plain": lambda: chain(
            (1, 4, 4), nn.Conv2d(1, 3, 2), nn.InstanceNorm2d(3, eps=EPSILON), torch.tanh),
        "instance_norm_tracked": lambda: chain(
            (1, 4, 3), nn.Conv2d(1, 3, 2), tracked(nn.InstanceNorm2d(3, affine=True, track_running_stats=True,
                                                                     eps=EPSILON)), torch.tanh,
            exports=("new",), variants=("new_optimized",)),  # the older exporter refuses an open batch
        "rms_norm": lambda: chain((3,), nn.Linear(3, 4), sane(nn.RMSNorm(4, eps=EPSILON)), nn.Linear(4, 3),
                                  torch.tanh, exports=("new",), variants=("new_optimized", "new_newest")),
        "rms_norm_written": lambda: chain((2, 3), nn.Linear(3, 4), Root(4), nn.Linear(4, 3), torch.tanh,
                                          variants=ALL),
        "batch_norm_first": lambda: chain((4,), sane(nn.BatchNorm1d(4, eps=EPSILON)), nn.Linear(4, 3),
                                          torch.tanh),
        "batch_norm_alone": lambda: Network(sane(nn.BatchNorm1d(4, eps=EPSILON)), {"x": (4,)},
                                            "cross_entropy"),
        "batch_norm_2d_first": lambda: chain((2, 3, 3), sane(nn.BatchNorm2d(2, eps=EPSILON)), torch.tanh,
                                             nn.Conv2d(2, 3, 2), torch.tanh),
        "batch_norm_between": lambda: chain((3,), nn.Linear(3, 4), sane(nn.BatchNorm1d(4, eps=EPSILON)),
                                            torch.tanh),
        "batch_norm_positions": lambda: chain((2, 5), nn.Conv1d(2, 3, 2, bias=False),
                                              sane(nn.BatchNorm1d(3, eps=EPSILON)), nn.Softplus()),
        "batch_norm_3d": lambda: chain((1, 3, 3, 2), nn.Conv3d(1, 2, 2),
                                       sane(nn.BatchNorm3d(2, eps=EPSILON)), torch.tanh),
        "batch_norm_plain": lambda: chain((3,), nn.Linear(3, 4),
                                          sane(nn.BatchNorm1d(4, affine=False, eps=EPSILON)), torch.tanh),
    }
    return made
