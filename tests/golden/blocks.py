"""Blocks of the networks people have, each as small as it gets: images, attention, text, shared weights."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from networks import EPSILON
from operations import ALL, ONE, hard_sigmoid
from spec import Network, Tokens, between, chain, sane

CE = "cross_entropy"
FIXED = ("new_fixed_optimized", "old_opset13_fixed")  # files for a batch of four


class Squeeze(nn.Module):
    """Squeeze-and-excitation: a channel's scale computed from the means of all."""

    def __init__(self, channels, middle, activation=F.relu, gate=torch.sigmoid):
        super().__init__()
        self.reduce = nn.Conv2d(channels, middle, 1)
        self.expand = nn.Conv2d(middle, channels, 1)
        self.activation, self.gate = activation, gate

    def forward(self, x):
        scale = self.activation(self.reduce(F.adaptive_avg_pool2d(x, 1)))
        return x * self.gate(self.expand(scale))


class Inverted(nn.Module):
    """EfficientNet's block: expand, depthwise, squeeze, project, skip."""

    def __init__(self, inside, outside, expand=2, kernel=3, stride=1):
        super().__init__()
        wide = inside * expand
        norm = lambda n: nn.BatchNorm2d(n, eps=EPSILON)
        self.skip = stride == 1 and inside == outside
        parts = [] if expand == 1 else [nn.Conv2d(inside, wide, 1, bias=False), norm(wide), nn.SiLU()]
        parts += [nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False), norm(wide),
                  nn.SiLU(), Squeeze(wide, max(1, inside // 4), F.silu),
                  nn.Conv2d(wide, outside, 1, bias=False), norm(outside)]
        self.parts = nn.Sequential(*parts)

    def forward(self, x):
        return x + self.parts(x) if self.skip else self.parts(x)


class Basic(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inside, outside, stride=1):
        super().__init__()
        norm = lambda n: nn.BatchNorm2d(n, eps=EPSILON)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = norm(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = norm(outside)
        self.downsample = None
        if stride > 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), norm(outside))

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + skip)


class Dense(nn.Module):
    """DenseNet's block: every layer sees all before."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(k, eps=EPSILON), nn.ReLU(), nn.Conv2d(k, 2, 3, padding=1, bias=False))
            for k in (2, 4, 6))

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class Shuffle(nn.Module):
    """ShuffleNetV2's unit: half goes through, the other through the branch, channels are shuffled."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1, groups=2),
                                    nn.Conv2d(2, 2, 1), nn.ReLU())

    def forward(self, x):
        a, b = x.chunk(2, 1)
        x = torch.cat([a, self.branch(b)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class Inception(nn.Module):
    """Branches of several widths and a pool, joined along the channels."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 1, 1)
        self.b = nn.Conv2d(2, 2, 3, padding=1)
        self.c = nn.Conv2d(2, 1, 1)

    def forward(self, x):
        return torch.cat([self.a(x), torch.tanh(self.b(x)),
                          self.c(F.avg_pool2d(x, 3, stride=1, padding=1))], 1)


class UNet(nn.Module):
    """Down, up and the skip joined; a class for each pixel."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.down = nn.Conv2d(2, 3, 3, padding=1)
        self.up = nn.ConvTranspose2d(3, 2, 2, stride=2)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        h = torch.tanh(self.down(F.max_pool2d(x, 2)))
        return self.head(torch.cat([x, torch.tanh(self.up(h))], 1))


def shifted(module):
    """Attention starts without shifts, which folding exporters leave out of the file."""
    for part in module.modules():
        if isinstance(part, nn.MultiheadAttention):
            nn.init.normal_(part.in_proj_bias, 0, 0.5)
            nn.init.normal_(part.out_proj.bias, 0, 0.5)
    return module


class Attend(nn.Module):
    """nn.MultiheadAttention on itself, with or without a mask."""

    def __init__(self, width=4, heads=2, mask=None, bias=True):
        super().__init__()
        self.inner = nn.MultiheadAttention(width, heads, batch_first=True, bias=bias)
        nn.init.normal_(self.inner.in_proj_weight, 0, 0.5)
        if bias:
            shifted(self.inner)
        self.mask = mask

    def forward(self, x):
        mask = None if self.mask is None else self.mask.to(x.dtype)
        return self.inner(x, x, x, need_weights=False, attn_mask=mask)[0]


class Cross(nn.Module):
    """Queries of learned tokens at what is given."""

    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 2, 4))
        self.inner = shifted(nn.MultiheadAttention(4, 2, batch_first=True))

    def forward(self, x):
        q = self.queries.expand(x.shape[0], -1, -1)
        return self.inner(q, x, x, need_weights=False)[0]


class Queries(nn.Module):
    """A decoder layer of learned tokens at what is given."""

    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(2, 4))
        self.layer = sane(nn.TransformerDecoderLayer(4, 2, 3, dropout=0.0, batch_first=True))
        shifted(self.layer.self_attn), shifted(self.layer.multihead_attn)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        q = self.queries.unsqueeze(0).repeat(x.shape[0], 1, 1)
        return self.head(self.layer(q, x).mean(1))


class Windows(nn.Module):
    """Attention within windows, which are folded into the batch."""

    def __init__(self):
        super().__init__()
        self.inner = shifted(nn.MultiheadAttention(4, 2, batch_first=True))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        w = x.reshape(-1, 2, 4)
        w = self.inner(w, w, w, need_weights=False)[0]
        return self.head(w.reshape(-1, 4, 4).mean(1))


class Squeezed(nn.Module):
    """One number per sample, without an axis of its own."""

    def __init__(self, *axis):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)
        self.axis = axis

    def forward(self, x):
        return self.last(torch.tanh(self.first(x))).squeeze(*self.axis)


class SqueezedAfterFlatten(nn.Module):
    """As above, of an extent that the older exporter does not know: it asks with an If."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(8, 1)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.last(h.reshape(h.shape[0], -1)).reshape(h.shape[0], -1).squeeze(1)


class Unbatched(nn.Module):
    """Takes [C, H, W] as well as [N, C, H, W]."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 3, 2), nn.Linear(12, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x)).flatten(-3))


class Number(nn.Module):
    """Of a single number."""

    def __init__(self):
        super().__init__()
        self.frequency, self.head = nn.Parameter(torch.randn(3)), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(torch.sin(x.unsqueeze(-1) * self.frequency))


class Bag(nn.Module):
    def __init__(self, mode, padding=None):
        super().__init__()
        self.bag = nn.EmbeddingBag(6, 3, mode=mode, padding_idx=padding)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        # Of modes that PyTorch cannot differentiate twice, the same by nn.Embedding.
        if torch.onnx.is_in_onnx_export():
            return self.head(torch.tanh(self.bag(x)))
        e = F.embedding(x, self.bag.weight)
        if self.bag.padding_idx is not None:
            keep = (x != self.bag.padding_idx).unsqueeze(-1).to(e.dtype)
            return self.head(torch.tanh((e * keep).sum(1) / keep.sum(1).clamp(min=1)))
        reduced = {"sum": e.sum, "mean": e.mean, "max": e.amax}[self.bag.mode](1)
        return self.head(torch.tanh(reduced))


class Scaled(nn.Module):
    """F.scaled_dot_product_attention of [N, heads, T, width]."""

    def __init__(self, mask=None, **options):
        super().__init__()
        self.mask, self.options = mask, options

    def forward(self, q, k, v):
        mask = self.mask
        if mask is not None and mask.is_floating_point():
            mask = mask.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, **self.options)


class Gpt(nn.Module):
    """A decoder of language models: tokens, learned positions, causal blocks, a class at every position."""

    def __init__(self, vocabulary=7, width=4, heads=2, length=5, blocks=1, tied=False, transposed=False,
                 written=False, norm=nn.LayerNorm, gate=False, scale=0.75):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(
            Decoder(width, heads, length, written, norm, gate, scale) for _ in range(blocks))
        self.norm = norm(width, eps=EPSILON)
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.tokens.weight
        self.transposed = transposed
        sane(self)

    def forward(self, x):
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        h = self.head(self.norm(h))
        return h.transpose(1, 2) if self.transposed else h


class Decoder(nn.Module):
    """One block; `written` spells attention as nanoGPT does, `gate` the MLP as LLaMA does."""

    def __init__(self, width, heads, length, written, norm, gate, scale):
        super().__init__()
        self.norm1, self.norm2 = norm(width, eps=EPSILON), norm(width, eps=EPSILON)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.gate = nn.Linear(width, 2 * width, bias=False) if gate else None
        self.heads, self.written, self.scale = heads, written, scale
        self.register_buffer("mask", torch.tril(torch.ones(length, length)).view(1, 1, length, length))

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).split(d, dim=2)
        q, k, v = (a.view(n, t, self.heads, d // self.heads).transpose(1, 2) for a in (q, k, v))
        if self.written:
            scores = (q @ k.transpose(-2, -1)) * self.scale
            scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf"))
            h = F.softmax(scores, dim=-1) @ v
        else:
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        x = x + self.project(h.transpose(1, 2).contiguous().view(n, t, d))
        h = self.norm2(x)
        h = F.gelu(self.up(h)) if self.gate is None else F.silu(self.gate(h)) * self.up(h)
        return x + self.down(h)


class Rotary(nn.Module):
    """Rotary positions: halves turned by constant angles."""

    def __init__(self, length=3, width=4):
        super().__init__()
        angles = torch.arange(length)[:, None] * torch.tensor([1.0, 0.25])
        self.register_buffer("cos", torch.cat([angles, angles], 1).cos())
        self.register_buffer("sin", torch.cat([angles, angles], 1).sin())

    def forward(self, x):
        half = x.shape[-1] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * self.cos + turned * self.sin


class Text(nn.Module):
    """Embedding, mean over positions, linear layers; `masked` leaves out the padding."""

    def __init__(self, vocabulary=9, width=3, masked=False, padding=None):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=padding)
        self.hidden = nn.Linear(width, 4)
        self.head = nn.Linear(4, 3)
        self.masked = masked

    def forward(self, x):
        h = self.embedding(x)
        if self.masked:
            mask = (x != 0).to(h.dtype).unsqueeze(-1)
            h = (h * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        else:
            h = h.mean(1)
        return self.head(torch.tanh(self.hidden(h)))


class MaskedAttention(nn.Module):
    """Attention that leaves out the padding of the tokens."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.qkv = nn.Linear(4, 12)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = self.qkv(self.embedding(x)).chunk(3, -1)
        mask = (x == 0).unsqueeze(1)
        scores = (q @ k.transpose(1, 2) * 0.5).masked_fill(mask, -1e4)
        return self.head((scores.softmax(-1) @ v).mean(1))


class KeyMask(nn.Module):
    """The same by F.scaled_dot_product_attention with a mask computed from the tokens."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.qkv = nn.Linear(4, 12)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = self.qkv(self.embedding(x)).unsqueeze(1).chunk(3, -1)
        mask = (x != 0)[:, None, None, :]
        return self.head(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).squeeze(1).mean(1))


class Vit(nn.Module):
    """Patches, a class token, positions, encoder blocks."""

    def __init__(self, width=4, heads=2, size=4, patch=2, channels=1, blocks=1, classes=3):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 1 + (size // patch) ** 2, width) / 2)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"norm1": nn.LayerNorm(width, eps=EPSILON), "attention": Attend(width, heads),
                           "norm2": nn.LayerNorm(width, eps=EPSILON), "up": nn.Linear(width, 2 * width),
                           "down": nn.Linear(2 * width, width)}) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.head = nn.Linear(width, classes)
        sane(self)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = x + block["attention"](block["norm1"](x))
            x = x + block["down"](F.gelu(block["up"](block["norm2"](x))))
        return self.head(self.norm(x)[:, 0])


class Tied(nn.Module):
    """An autoencoder: the second layer is the first transposed; biases of their own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4) / 2)
        self.inner = nn.Parameter(torch.randn(3))
        self.outer = nn.Parameter(torch.randn(4))

    def forward(self, x):
        h = torch.tanh(F.linear(x, self.weight, self.inner))
        return F.linear(h, self.weight.t(), self.outer)


class TiedLayers(nn.Module):
    """Two layers of one weight, each with its bias."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Thrice(nn.Module):
    """One layer three times in depth, one convolution on two inputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 2, 3, padding=1)
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = torch.cat([torch.tanh(self.conv(x)), torch.tanh(self.conv(x.flip(2)))], 2)
        for _ in range(3):
            x = x.reshape(x.shape[0], 2, 2, 4)
            x = torch.tanh(self.layer(x))
        return self.head(x.reshape(x.shape[0], 2, 8).mean(1))


class Added(nn.Module):
    """Two inputs, added after a linear layer each."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(3, 4)
        self.right = nn.Linear(2, 4, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, a, b):
        return self.head(torch.tanh(self.left(a) + self.right(b)))


class Concatenated(nn.Module):
    """Two inputs, one through a convolution, joined."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)
        self.hidden = nn.Linear(2 * 4 + 2, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, image, extra):
        h = torch.cat([torch.flatten(torch.tanh(self.conv(image)), 1), extra], 1)
        return self.head(torch.tanh(self.hidden(h)))


class TokensAndNumbers(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.numbers = nn.Linear(2, 3)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens, numbers):
        h = torch.cat([self.embedding(tokens).mean(1), torch.tanh(self.numbers(numbers))], -1)
        return self.head(h)


class Siamese(nn.Module):
    """One trunk on two inputs, the distance of what it gives."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def forward(self, a, b):
        return ((self.trunk(a) - self.trunk(b)) ** 2).sum(1, keepdim=True)


class TwoHeads(nn.Module):
    """Two outputs of a shared trunk."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(3, 4)
        self.scores = nn.Linear(4, 3)
        self.value = nn.Linear(4, 1)

    def forward(self, x):
        h = torch.tanh(self.trunk(x))
        return self.scores(h), torch.tanh(self.value(h))


class Lookup(nn.Module):
    """Constant rows of a learned table, and tokens that were made one-hot."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, 3))
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        rows = self.table[torch.tensor([4, 0, 2])]
        return self.head(torch.tanh(x @ rows))


class OneHot(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 3)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        h = F.one_hot(x, 4).to(self.hidden.weight.dtype).sum(1)
        return self.head(torch.tanh(self.hidden(h)))


class PickLast(nn.Module):
    """Positions that depend on the tokens alone: the last one, the greatest, a bucket, a remainder."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(6, 3)
        self.hidden = nn.Linear(3, 3)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        h = torch.tanh(self.hidden(self.tokens(x)))
        own = torch.arange(x.shape[0])
        last = h[own, (x != 0).sum(1) - 1]
        greatest = h[own, x.argmax(-1)]
        before = h[own, (x.eq(0).int().argmax(-1) - 1) % x.shape[1]]
        bucket = (h * F.one_hot(x // 2, 4)[..., 1:]).sum(1)
        return self.head(torch.cat([last, greatest, before, bucket], 1))


class OfNumbers(nn.Module):
    """Integers made of real inputs: floor, truncation, the order of the values."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(2, 4)
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        h = torch.tanh(self.hidden(x))
        rows = x[..., 0].topk(2, 1).indices
        steps = torch.floor(2 * x[..., 1:]) + torch.round(x[..., :1])
        kinds = F.one_hot((4 * x[..., 1].abs()).long().clamp(max=3), 4)
        picked = torch.gather(h, 1, rows[..., None].expand(-1, -1, 4))[:, 1]
        return self.head(torch.cat([picked, (h * steps).sum(1), (h * kinds).mean(1)], 1))


class Assigned(nn.Module):
    """Assignment in place, and a diagonal."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(3, 4)
        self.row = nn.Parameter(torch.randn(4))
        self.head = nn.Linear(20, 2)

    def forward(self, x):
        h = torch.tanh(self.hidden(x)).clone()
        h[:, 0] = self.row * x[:, 0, :1]
        h[:, 1, ::2] = h[:, 2, 1::2] * 2
        h[:, -1] = h[:, 1] - 0.5
        diagonal = torch.einsum("bii,bij->bj", h, h)
        return self.head(torch.cat([h.flatten(1), diagonal], 1))


class Summed(nn.Module):
    """Sums at numbered places."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(3, 4)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        h = torch.tanh(self.hidden(x))
        return self.head(torch.zeros_like(h[:, :2]).index_add(1, torch.tensor([0, 1, 0, 1]), h).flatten(1))


class AssignedByData(nn.Module):
    """Writing and adding at places that the tokens name."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(6, 3)
        self.hidden = nn.Linear(3, 4)
        self.row = nn.Parameter(torch.randn(4))
        self.head = nn.Linear(28, 2)

    def forward(self, x):
        h = torch.tanh(self.hidden(self.tokens(x)))
        sums = torch.zeros_like(h[:, :3]).scatter_add(1, (x % 3)[..., None].expand(-1, -1, 4), h)
        h = h.clone()
        h[torch.arange(x.shape[0]), x[:, 0] // 2] = self.row * h.mean(1)
        return self.head(torch.cat([h.flatten(1), sums.flatten(1)], 1))


class Unrolled(nn.Module):
    """A recurrent layer that the new exporter writes step by step, without an operation of its own."""

    def __init__(self):
        super().__init__()
        self.inner = nn.RNN(2, 3, batch_first=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.inner(x)[0][:, -1])


def encoder(norm_first, activation, mask=False):
    layer = nn.TransformerEncoderLayer(4, 2, 6, 0.0, activation, EPSILON, batch_first=True,
                                       norm_first=norm_first)
    causal = torch.full((3, 3), float("-inf")).triu(1)
    layer = shifted(sane(layer))
    return nn.Sequential(layer) if not mask else Masked(layer, causal)


class Masked(nn.Module):
    """A layer given a mask as well."""

    def __init__(self, layer, mask):
        super().__init__()
        self.layer, self.mask = layer, mask

    def forward(self, x):
        return self.layer(x, src_mask=self.mask.to(x.dtype))


# Whole networks at a width where they are test cases.


class Small(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x):
        return self.parts(x)


def conv_norm(inside, outside, kernel=3, stride=1, groups=1, activation=nn.SiLU):
    return nn.Sequential(nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(outside, eps=EPSILON), activation())


def resnet(widths=(2, 2, 3, 4)):
    """ResNet-18's 4 stages of 2 basic blocks with the stem for small images."""
    inside, stages = widths[0], [conv_norm(3, widths[0], activation=nn.ReLU)]
    for k, width in enumerate(widths):
        stages += [Basic(inside, width, 1 if k == 0 else 2), Basic(width, width)]
        inside = width
    return sane(nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 4)))


def efficientnet():
    """EfficientNet-B0's order of blocks: 1 without expansion, kernels 3 and 5, strides, skips."""
    return sane(nn.Sequential(
        conv_norm(3, 4, stride=2), Inverted(4, 2, 1), Inverted(2, 3, 4, 3, 2), Inverted(3, 3, 4, 3),
        Inverted(3, 4, 4, 5, 2), Inverted(4, 4, 4, 5), conv_norm(4, 8, 1), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 4)))


def mobilenet():
    """MobileNetV2's inverted residuals with ReLU6 and linear bottlenecks."""
    def block(inside, outside, expand, stride):
        wide = inside * expand
        return nn.Sequential(conv_norm(inside, wide, 1, activation=nn.ReLU6),
                             conv_norm(wide, wide, 3, stride, wide, nn.ReLU6),
                             nn.Conv2d(wide, outside, 1, bias=False), nn.BatchNorm2d(outside, eps=EPSILON))
    return sane(nn.Sequential(conv_norm(3, 4, 3, 2, 1, nn.ReLU6), block(4, 3, 3, 1), block(3, 4, 4, 2),
                              conv_norm(4, 8, 1, activation=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                              nn.Linear(8, 4)))


def allcnn():
    """All-CNN-C: convolutions alone, strides for pools, the mean over the last maps."""
    conv = lambda a, b, k=3, s=1, p=1: [nn.Conv2d(a, b, k, s, p), nn.ReLU()]
    return nn.Sequential(
        *conv(3, 3), *conv(3, 3), *conv(3, 3, s=2), *conv(3, 6), *conv(6, 6), *conv(6, 6, s=2),
        *conv(6, 6, p=0), *conv(6, 6, 1, p=0), *conv(6, 4, 1, p=0), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def threec3d():
    """DeepOBS's 3C3D with its pools (3, stride 2, SAME)."""
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(
        nn.Conv2d(3, 3, 5), nn.ReLU(), pool, nn.Conv2d(3, 4, 3), nn.ReLU(), pool,
        nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.Linear(5, 16), nn.ReLU(),
        nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 4))


def attention(mask=None, heads=(2, 2), newest=("new_newest",), length=3, exports=("new", "old"), **options):
    """Scaled dot products of queries and keys that a linear layer each gives."""
    q, kv = heads
    return between(Scaled(mask, **options), (q, length, 2), (kv, length, 2), (kv, length, 2), width=2,
                   variants=newest, exports=exports)


def makers():
    """name → function that makes the network."""
    image, tokens = (3, 8, 8), {"x": Tokens(7, (5,))}
    causal = torch.full((3, 3), float("-inf")).triu(1)
    bias = torch.tensor([[0.5, -1.0, 0.25], [0.0, 2.0, -0.5], [1.0, 0.125, -1.5]])
    lower = torch.tensor([[True, False, True], [True, True, False], [False, True, True]])
    after = lambda part, shape, **rest: chain(shape, part, torch.tanh, **rest)
    return {
        "squeeze_excite": lambda: chain((1, 3, 3), nn.Conv2d(1, 4, 2), Squeeze(4, 2), variants=ALL),
        "squeeze_excite_hard": lambda: chain(
            (1, 3, 3), nn.Conv2d(1, 4, 2), Squeeze(4, 2, F.relu, hard_sigmoid), nn.Hardswish()),
        "inverted_residual": lambda: chain((2, 4, 4), sane(Inverted(2, 2)), variants=("new_newest",)),
        "inverted_residual_strided": lambda: chain((2, 4, 4), sane(Inverted(2, 3, 2, 5, 2))),
        "basic_blocks": lambda: chain((2, 4, 4), sane(nn.Sequential(Basic(2, 2), Basic(2, 3, 2))),
                                      nn.AdaptiveAvgPool2d(1), out=3, loss=CE, variants=("new_newest",)),
        "dense_block": lambda: chain((2, 3, 3), sane(Dense()), nn.AdaptiveAvgPool2d(1), variants=ALL),
        "shuffle_unit": lambda: chain((4, 3, 3), Shuffle(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                      variants=ALL),
        "inception": lambda: chain((2, 3, 3), Inception()),
        "unet": lambda: Network(UNet(), {"x": (1, 4, 4)}, CE, "mean", {"ignore_index": -1}, variants=ALL),
        # Attention.
        "multihead": lambda: Network(Attend(), {"x": (3, 4)}, variants=ALL + ONE),
        "multihead_nobias": lambda: Network(Attend(bias=False), {"x": (3, 4)}, "bce"),
        "multihead_masked": lambda: Network(Attend(mask=causal), {"x": (3, 4)}, variants=ALL + ONE),
        "multihead_one": lambda: Network(Attend(4, 1), {"x": (2, 4)}, variants=("new_newest",)),
        "multihead_cross": lambda: Network(Cross(), {"x": (3, 4)}, variants=ALL + ("new_raw_one", "old_raw_one")),
        "attention": lambda: attention(newest=ALL),
        "attention_scale": lambda: attention(scale=0.25, newest=ALL),
        "attention_causal": lambda: attention(is_causal=True, newest=ALL),
        "attention_causal_scale": lambda: attention(is_causal=True, scale=0.25),
        "attention_bias": lambda: attention(bias, newest=ALL + ONE, scale=0.25),
        "attention_mask": lambda: attention(lower, newest=ALL, scale=0.25),
        "attention_grouped": lambda: attention(heads=(4, 2), enable_gqa=True, scale=0.25, length=2,
                                               exports=("new",)),
        "attention_one_key": lambda: attention(heads=(2, 1), enable_gqa=True, is_causal=True, scale=0.25,
                                               exports=("new",)),
        "rotary": lambda: chain((3, 2), nn.Linear(2, 4), Rotary(), nn.Linear(4, 3), torch.tanh, variants=ALL),
        "encoder_layer": lambda: Network(encoder(False, "gelu"), {"x": (3, 4)}, variants=ALL + ONE),
        "encoder_layer_relu": lambda: Network(encoder(False, "relu"), {"x": (3, 4)}),
        "encoder_layer_first": lambda: Network(encoder(True, "gelu"), {"x": (3, 4)}, variants=ALL + ONE),
        "encoder_layer_masked": lambda: Network(encoder(True, "relu", True), {"x": (3, 4)}),
        # Tokens.
        "text_mean": lambda: Network(Text(), {"x": Tokens(9, (4,))}, CE, variants=ALL),
        "text_padded": lambda: Network(Text(masked=True, padding=0), {"x": Tokens(9, (4,), True)}, CE,
                                       variants=ALL),
        "text_attention": lambda: Network(MaskedAttention(), {"x": Tokens(6, (4,), True)}, CE, variants=ALL + ONE),
        "text_attention_scaled": lambda: Network(KeyMask(), {"x": Tokens(6, (4,), True)}, CE, variants=ALL),
        "one_hot": lambda: Network(OneHot(), {"x": Tokens(4, (3,))}, CE),
        "lookup": lambda: Network(Lookup(), {"x": (2, 3)}),
        # Positions and integers of the data alone; assignment.
        "pick_last": lambda: Network(PickLast(), {"x": Tokens(6, (4,), True)}, CE, variants=FIXED),
        "of_numbers": lambda: Network(OfNumbers(), {"x": (3, 2)}, variants=FIXED),
        "assigned": lambda: Network(Assigned(), {"x": (4, 3)}, variants=FIXED),
        "summed": lambda: Network(Summed(), {"x": (4, 3)}, exports=("new",), variants=("new_fixed_optimized",)),
        "assigned_by_data": lambda: Network(AssignedByData(), {"x": Tokens(6, (4,))},
                                            variants=("new_fixed_optimized", "old_fixed")),
        "gpt": lambda: Network(Gpt(), tokens, CE, "mean", {"ignore_index": -1}, class_axis=-1, variants=ALL),
        "gpt_transposed": lambda: Network(Gpt(transposed=True), tokens, CE, "sum", variants=ALL),
        "gpt_tied": lambda: Network(Gpt(tied=True), tokens, CE, class_axis=-1,
                                    variants=("new_newest",)),  # folding copies the table
        "gpt_written": lambda: Network(Gpt(written=True), tokens, CE, class_axis=-1, variants=ALL),
        "gpt_rms": lambda: Network(Gpt(norm=nn.RMSNorm, gate=True), tokens, CE, class_axis=-1,
                                   exports=("new",), variants=("new_optimized", "new_newest")),
        # One sample: nothing left of an axis for it, or none from the start.
        "queries": lambda: Network(Queries(), {"x": (3, 4)}, CE, variants=("new_raw_one", "old_raw_one")),
        "windows": lambda: Network(Windows(), {"x": (4, 4)}, variants=ONE),
        "squeezed": lambda: Network(Squeezed(), {"x": (3,)}, "bce", variants=ONE),
        "squeezed_axis": lambda: Network(Squeezed(1), {"x": (3,)}, "bce", variants=ONE),
        "squeezed_known": lambda: Network(SqueezedAfterFlatten(), {"x": (2, 3)}, "bce", variants=ONE),
        "vector": lambda: Network(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)), {"x": (5,)}, CE,
                                  exports=("new_whole", "old_whole")),
        "vector_normed": lambda: Network(
            nn.Sequential(sane(nn.LayerNorm(5)), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)), {"x": (5,)},
            exports=("new_whole", "old_whole")),
        "image_without_batch": lambda: Network(Unbatched(), {"x": (2, 3, 3)}, CE,
                                               exports=("new_whole", "old_whole")),
        "number": lambda: Network(Number(), {"x": ()}, exports=("new_whole", "old_whole")),
        # Bags of tokens, which exporters write as a loop.
        "bag_sum": lambda: Network(Bag("sum"), {"x": Tokens(6, (4,))}, CE, variants=ONE),
        "bag_mean": lambda: Network(Bag("mean"), {"x": Tokens(6, (4,))}, CE, exports=("old",),  # ORT ends on new
                                    variants=("new_optimized", *ONE)),
        "bag_max": lambda: Network(Bag("max"), {"x": Tokens(6, (4,))}, CE, variants=ONE),
        "bag_padded": lambda: Network(Bag("mean", 0), {"x": Tokens(6, (4,), True)}, CE, exports=("new",),
                                      variants=("new_one",)),
        "rnn_unrolled": lambda: Network(Unrolled(), {"x": (3, 2)}, exports=("new",),
                                        variants=("new_optimized",)),
        "vit": lambda: Network(Vit(), {"x": (1, 4, 4)}, CE, variants=ALL + ONE),
        # Shared weights, several inputs and outputs.
        "tied_transposed": lambda: Network(Tied(), {"x": (4,)}, variants=("old_folded", "new_newest")),
        "tied_layers": lambda: Network(TiedLayers(), {"x": (4,)}, variants=ALL),
        "thrice": lambda: Network(Thrice(), {"x": (2, 4)}, variants=ALL),
        "two_inputs_added": lambda: Network(Added(), {"a": (3,), "b": (2,)}, CE, variants=ALL),
        "two_inputs_joined": lambda: Network(Concatenated(), {"image": (1, 3, 3), "extra": (2,)}, CE,
                                             variants=ALL),
        "tokens_and_numbers": lambda: Network(
            TokensAndNumbers(), {"tokens": Tokens(5, (3,)), "numbers": (2,)}, CE, variants=ALL),
        "siamese": lambda: Network(Siamese(), {"a": (3,), "b": (3,)}),
        "two_outputs_scores": lambda: Network(TwoHeads(), {"x": (3,)}, CE, outputs=("scores", "value"),
                                              output="scores", variants=ALL),
        "two_outputs_value": lambda: Network(TwoHeads(), {"x": (3,)}, "mse", outputs=("scores", "value"),
                                             output="value"),
        # Small whole networks.
        "small_resnet18": lambda: Network(resnet(), {"x": image}, CE, large=True),
        "small_efficientnet": lambda: Network(efficientnet(), {"x": image}, CE, large=True),
        "small_mobilenet": lambda: Network(mobilenet(), {"x": image}, CE, large=True),
        "small_allcnn": lambda: Network(allcnn(), {"x": (3, 12, 12)}, CE, large=True),
        "small_3c3d": lambda: Network(threec3d(), {"x": (3, 18, 18)}, CE, large=True),
        "small_vit": lambda: Network(Vit(8, 2, 8, 4, 3, 2, 4), {"x": image}, CE, large=True,
                                     variants=("new_newest",)),
        "small_gpt": lambda: Network(Gpt(11, 8, 2, 6, 2), {"x": Tokens(11, (6,))}, CE, class_axis=-1,
                                     large=True, variants=("new_newest",)),
        "small_text": lambda: Network(Text(40, 8, True, 0), {"x": Tokens(40, (7,), True)}, CE, large=True),
    }
