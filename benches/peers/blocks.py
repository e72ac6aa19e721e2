"""Times blocks of G, its diagonal and its factors, of LeNet-5, in JAX, PyTorch, curvlinops and by hand.

    pip install torch jax curvlinops-for-pytorch backpack-for-pytorch      # onnx onnxscript for --export
    python benches/peers/blocks.py --json peers.json
    python benches/peers/blocks.py --only dense2,conv2 --hessblock hessblock.json     # puts its times beside
    python benches/peers/blocks.py --export FOLDER                # the same network and data, for hessblock
    python benches/peers/blocks.py --check G.npy --part dense1    # a block that hessblock wrote

LeNet-5 with tanh on 28 × 28 (p = 44,426), 128 samples, 10 classes, mean cross-entropy, float32. All start from
weights and data in memory, run the network anew, and give the part in memory. Δ are the derivatives of the
outputs by a layer's pre-activations times a root S of the loss's Hessian (R = 10 for each sample), a the
layer's inputs, V = SᵀJ of 1280 rows; G = VᵀV.

- JAX, under `jit`: V by vmap of vjp, then VᵀV; einsum over V; for dense layers the einsum
  `nro,ni,nrq,nj->oiqj` over Δ and a, which it turns into one product of pairs.
- PyTorch: BackPACK's SqrtGGNExact for V, torch.mm for VᵀV; BackPACK's DiagGGNExact.
- curvlinops: GGNLinearOperator of the part's parameters times columns of the identity; beyond `--columns` of
  them a sample is timed and scaled up (`scaled` in the JSON, ~ in the table). It estimates diagonals only.
- hand-written: what a user of these could write for this network. Dense layers: P = Σ_r ΔΔ' of all o ≤ o',
  A = aa' of all i ≤ i', ONE product PᵀA over the samples, scattered into both triangles; and variants that
  leave out a symmetry for a simpler scatter. Otherwise V by hand and NumPy's VᵀV, which is a syrk: half the
  operations.

Results go to memory that was touched before: `out=` in PyTorch and NumPy, a donated array in JAX. Those into
fresh memory stand apart (`fresh`; the first touch of 3.8 GB takes its time), with * in the first table where
that is a peer's fastest.
JAX's ways on Δ and a leave a bias where it falls, as one more column of its weight's row; the others use the
order of the parameters. The numbers of a peer are those of its fastest way; all ways are in the JSON.

Every part is measured in a process of its own. Contenders take turns of several calls, the first two of a turn
untimed; what takes over 1 s is called twice, over 4 s once, and those of dense1 and full come one after the
other. Each is compared with double precision first (random entries and norm, to 1e-4). `two/one` is how much
faster two threads multiply matrices than one; below about 1.8 two virtual cores are one physical core, or others
compute, and the times say little.

`--hessblock` takes a JSON file with `dense1_ms`, `dense1_fresh_ms`, …; `--hessblock-command` a command that
prints such, run after each part with `{part}` replaced by its name, or once if it has no `{part}`.
"""

import argparse
import gc
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

warnings.simplefilter("ignore")

import backpack
import backpack.extensions
import curvlinops
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from lenet import lenet, pieces as hand_pieces
from products import two_over_one

TOLERANCE, SLOW = 1e-4, 4.0
LAYERS = ["conv1", "conv2", "dense1", "dense2", "dense3"]
PARTS = ["gradient", "diagonal", "factors", "factors_apart", "conv2", "dense2", "dense1", "full"]
NAMES = {"gradient": "gradient", "diagonal": "diagonal", "factors": "all factors",
         "factors_apart": "all factors, Δ and a"}
PEERS = ["JAX", "PyTorch", "curvlinops", "hand-written"]
ALONE = ("dense1", "full")  # too large to hold those of several contenders


class Problem:
    """Network, data, and which parameters a part takes."""

    def __init__(self, part, samples):
        torch.manual_seed(0)
        self.model = lenet()
        self.x, self.y = torch.randn(samples, 1, 28, 28), torch.arange(samples) % 10
        self.part, self.samples = part, samples
        self.layer = LAYERS.index(part) if part in LAYERS else None
        k = self.layer
        self.slots = list(range(10)) if k is None else [2 * k, 2 * k + 1]
        self.parameters = [list(self.model.parameters())[s] for s in self.slots]
        self.count = sum(p.numel() for p in self.parameters)
        self.kind = {"gradient": "vector", "diagonal": "vector", "factors": "factor",
                     "factors_apart": "apart"}.get(part, "block")
        self.touched = None

    def memory(self):
        """The block's memory, touched before; all contenders but JAX write there."""
        if self.touched is None:
            self.touched = np.empty((self.count, self.count), np.float32)
            self.touched.fill(0)
        return self.touched

    def extents(self):
        """Outputs and inputs of a dense layer."""
        return tuple(self.parameters[0].shape)


# --- JAX ---------------------------------------------------------------------------------------------------

def pool(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def network(w, x, taps=None):
    """Outputs and the layers' inputs; `taps` are added to the layers' pre-activations."""
    inputs, tap = [], lambda z, k: z if taps is None else z + taps[k]
    for k in range(2):
        inputs.append(x)
        z = jax.lax.conv(x, w[2 * k], (1, 1), "VALID") + w[2 * k + 1][:, None, None]
        x = pool(jnp.tanh(tap(z, k)))
    x = x.reshape(len(x), -1)
    for k in range(2, 5):
        inputs.append(x)
        x = tap(x @ w[2 * k].T + w[2 * k + 1], k)
        x = jnp.tanh(x) if k < 4 else x
    return x, inputs


def root(z, samples):
    """S of each sample, [outputs, R]: SSᵀ is the Hessian of the mean cross-entropy."""
    p = jax.nn.softmax(z)
    s = jnp.sqrt(p)
    return (s[..., None] * jnp.eye(z.shape[-1]) - p[..., None] * s[..., None, :]) / samples**0.5


def jax_factor(problem):
    """(w, x) → V of the part, [samples, R, entries], by vmap of vjp."""
    def of_sample(w, x):
        def outputs(part):
            return network([part.get(s, w[s]) for s in range(10)], x[None])[0][0]
        z, back = jax.vjp(outputs, {s: w[s] for s in problem.slots})
        rows = jax.vmap(lambda s: back(s)[0], in_axes=1)(root(z, problem.samples))
        return jnp.concatenate([rows[s].reshape(10, -1) for s in problem.slots], 1)
    return lambda w, x: jax.vmap(of_sample, (None, 0))(w, x)


def jax_pieces(w, x, samples, layers):
    """(Δ, a) of the layers: [n, R, o] and [n, i + 1], or [n, R, o, t] and [n, k, t] of a convolution."""
    sizes = [(6, 24, 24), (16, 8, 8), (120,), (84,), (10,)]
    none = {k: 0.0 for k in range(5)}
    taps = {k: jnp.zeros((len(x), *sizes[k])) for k in layers}
    z, back, inputs = jax.vjp(lambda t: network(w, x, none | t), taps, has_aux=True)
    deltas = jax.vmap(lambda s: back(s)[0], in_axes=2, out_axes=1)(root(z, samples))
    pieces = []
    for k in layers:
        delta, a = deltas[k], inputs[k]
        if k < 2:
            a = jax.lax.conv_general_dilated_patches(a, (5, 5), (1, 1), "VALID")
            a, delta = a.reshape(*a.shape[:2], -1), delta.reshape(*delta.shape[:3], -1)
        else:
            a = jnp.concatenate([a, jnp.ones((len(a), 1))], 1)
        pieces.append((delta, a))
    return pieces


def rows_of(pieces):
    """V, [samples, R, entries], from Δ and a of all layers."""
    columns = []
    for delta, a in pieces:
        n, r = delta.shape[:2]
        weight, bias = ((jnp.einsum("nrot,nkt->nrok", delta, a), delta.sum(-1)) if delta.ndim == 4
                        else (delta[..., None] * a[:, None, None, :-1], delta))
        columns += [weight.reshape(n, r, -1), bias]
    return jnp.concatenate(columns, 2)


def squares_of(pieces):
    """The diagonal from Δ and a, dense ones not multiplied out."""
    columns = []
    for delta, a in pieces:
        if delta.ndim == 4:
            weight = (jnp.einsum("nrot,nkt->nrok", delta, a)**2).sum((0, 1))
            bias = (delta.sum(-1)**2).sum((0, 1))
        else:
            both = (delta**2).sum(1).T @ a**2
            weight, bias = both[:, :-1], both[:, -1]
        columns += [weight.reshape(-1), bias]
    return jnp.concatenate(columns)


def pair_tables(o, i):
    """Upper pairs of o and of i, and where each of all pairs is among them."""
    tables = []
    for n in (o, i):
        first, second = np.triu_indices(n)
        where = np.zeros((n, n), np.int32)
        where[first, second] = where[second, first] = np.arange(len(first))
        tables += [(first, second), where]
    return tables


def of_jax(problem):
    w = [jnp.asarray(t.detach().numpy()) for t in problem.model.parameters()]
    x, y = jnp.asarray(problem.x.numpy()), jnp.asarray(problem.y.numpy())
    n, k, part = problem.samples, problem.layer, problem.part
    factor = jax_factor(problem)
    flat = lambda v: v.reshape(-1, v.shape[-1])
    product = lambda v: v.T @ v

    def fresh(f, order="file"):
        def make():
            g = jax.jit(f).lower(w, x).compile()
            return lambda: jax.block_until_ready(g(w, x))
        return make, {"memory": "fresh", "order": order}

    def touched(f, order="file"):  # the result is written where the one before was
        def make():
            shape = jax.eval_shape(f, w, x)
            g = jax.jit(lambda old, w, x: f(w, x), donate_argnums=0, keep_unused=True)
            g = g.lower(shape, w, x).compile()
            held = [jax.block_until_ready(jnp.zeros(shape.shape, shape.dtype))]

            def run():
                held[0] = jax.block_until_ready(g(held[0], w, x))
                return held[0]
            return run
        return make, {"memory": "touched", "order": order}

    if part == "gradient":
        def loss(w, x):
            return -jnp.take_along_axis(jax.nn.log_softmax(network(w, x)[0]), y[:, None], 1).mean()
        return {"JAX": {"grad": fresh(jax.grad(loss))}}
    pieces = lambda w, x: jax_pieces(w, x, n, range(5))
    if part == "diagonal":
        return {"JAX": {"V, squares": fresh(lambda w, x: (factor(w, x)**2).sum((0, 1))),
                        "einsum of Δ² and a²": fresh(lambda w, x: squares_of(pieces(w, x)))}}
    if part == "factors":
        multiplied, direct = lambda w, x: flat(rows_of(pieces(w, x))), lambda w, x: flat(factor(w, x))
        return {"JAX": {"vmap of vjp": touched(direct), "vmap of vjp, fresh": fresh(direct),
                        "Δ times a": touched(multiplied), "Δ times a, fresh": fresh(multiplied)}}
    if part == "factors_apart":
        return {"JAX": {"Δ and a": fresh(pieces)}}
    whole = lambda w, x: product(flat(factor(w, x)))
    ways = {"V, VᵀV": touched(whole)}
    if part == "full":
        return {"JAX": ways}

    def by_einsum(w, x):
        v = factor(w, x)
        return jnp.einsum("nrp,nrq->pq", v, v)
    ways["einsum nrp,nrq->pq"] = touched(by_einsum)
    if part not in ALONE:
        ways["V, VᵀV, fresh"] = fresh(whole)
    if part == "conv2":
        return {"JAX": ways}
    o, i = problem.extents()
    size = o * (i + 1)
    (po, where_o), (pi, where_i) = (lambda t: (t[:2], t[2:]))(pair_tables(o, i + 1))

    def structured(w, x):
        (delta, a), = jax_pieces(w, x, n, [k])
        return jnp.einsum("nro,ni,nrq,nj->oiqj", delta, a, delta, a, optimize="optimal").reshape(size, size)

    def pairs(w, x):  # one product of upper pairs, one gather
        (delta, a), = jax_pieces(w, x, n, [k])
        p = jnp.einsum("nro,nrq->noq", delta, delta)[:, po[0], po[1]]
        m = p.T @ (a[:, pi[0]] * a[:, pi[1]])
        index = where_o[:, None, :, None] * np.int32(m.shape[1]) + jnp.asarray(where_i)[None, :, None, :]
        return m.reshape(-1)[index].reshape(size, size)

    def each(w, x):  # for each o a product of o' and all (i, i')
        (delta, a), = jax_pieces(w, x, n, [k])
        p = jnp.einsum("nro,nrq->onq", delta, delta)
        every = (a[:, :, None] * a[:, None, :]).reshape(n, -1)
        rows = jax.lax.map(lambda p: (p.T @ every).reshape(o, i + 1, i + 1).transpose(1, 0, 2), p)
        return rows.reshape(size, size)
    where_o = jnp.asarray(where_o)
    ways["einsum of Δ and a"] = touched(structured, "rows")
    ways["einsum of Δ and a, fresh"] = fresh(structured, "rows")
    return {"JAX": ways, "hand-written": {"JAX: one product of pairs, gather": touched(pairs, "rows"),
                                        "JAX: a product for each o": touched(each, "rows")}}


# --- PyTorch and curvlinops --------------------------------------------------------------------------------

def of_torch(problem):
    part, x, y = problem.part, problem.x, problem.y
    if part == "factors_apart":
        return {}
    if part == "gradient":
        run = lambda: torch.autograd.grad(
            F.cross_entropy(problem.model(x), y), problem.parameters)
        return {"PyTorch": {"backward": (lambda: run, {"memory": "fresh"})}}

    def extended(extension):
        model, loss = backpack.extend(lenet()), backpack.extend(nn.CrossEntropyLoss())
        model.load_state_dict(problem.model.state_dict())
        every = list(model.parameters())
        for s, p in enumerate(every):
            p.requires_grad_(s in problem.slots)
        chosen = [every[s] for s in problem.slots]

        def run():
            with backpack.backpack(extension()):
                loss(model(x), y).backward()
            name = extension().savefield
            values = [getattr(p, name) for p in chosen]
            for p in chosen:
                p.grad = None
                delattr(p, name)
            return values
        return run

    if part == "diagonal":
        def make():
            run = extended(backpack.extensions.DiagGGNExact)
            return lambda: torch.cat([v.reshape(-1) for v in run()])
        return {"PyTorch": {"BackPACK DiagGGNExact": (make, {"memory": "fresh"})}}

    def make_factor():
        run = extended(backpack.extensions.SqrtGGNExact)
        return lambda: torch.cat([v.reshape(10 * problem.samples, -1) for v in run()], 1)
    if part == "factors":
        def make_touched():
            run = extended(backpack.extensions.SqrtGGNExact)
            out = torch.zeros(10 * problem.samples, problem.count)
            return lambda: torch.cat([v.reshape(10 * problem.samples, -1) for v in run()], 1, out=out)
        return {"PyTorch": {"BackPACK SqrtGGNExact": (make_touched, {"memory": "touched"}),
                            "BackPACK SqrtGGNExact, fresh": (make_factor, {"memory": "fresh"})}}

    def make_block(out):
        run, out = make_factor(), torch.from_numpy(problem.memory()) if out else None

        def block():
            v = run()
            return torch.mm(v.T, v) if out is None else torch.mm(v.T, v, out=out)
        return block
    ways = {"BackPACK SqrtGGNExact, VᵀV": (lambda: make_block(True), {"memory": "touched"})}
    if part not in ALONE:
        ways["BackPACK SqrtGGNExact, VᵀV, fresh"] = (lambda: make_block(False), {"memory": "fresh"})
    return {"PyTorch": ways}


def of_curvlinops(problem, columns, batch=32):
    if problem.kind != "block":
        return {}
    p = problem.count
    starts = np.unique(np.linspace(0, p - batch, max(1, columns // batch)).astype(int)) \
        if columns < p else np.arange(0, p, batch)
    taken = np.concatenate([np.arange(s, min(s + batch, p)) for s in starts])

    def make():
        out = torch.from_numpy(problem.memory())
        ggn = curvlinops.GGNLinearOperator(problem.model, nn.CrossEntropyLoss(), problem.parameters,
                                           [(problem.x, problem.y)], check_deterministic=False)

        def run():
            for s in starts:
                size = min(batch, p - s)
                unit = torch.zeros(p, size)
                unit[range(s, s + size), range(size)] = 1
                out[s:s + size] = (ggn @ unit).T  # columns are rows: G is symmetric
            return out
        return run
    about = {"memory": "touched", "scale": p / len(taken), "rows": taken}
    return {"curvlinops": {f"GGNLinearOperator, {batch} columns at once": (make, about)}}


# --- by hand -----------------------------------------------------------------------------------------------

def of_hand(problem, threads):
    """NumPy and PyTorch for a block; JAX's are with JAX's."""
    if problem.kind != "block":
        return {}
    layer, samples = problem.layer, problem.samples
    if layer == 1:
        v = np.zeros((10 * samples, problem.count), np.float32)

        def make_conv():
            out = problem.memory()

            def run():
                (delta, a), = hand_pieces(problem.model, problem.x, [layer])
                rows = (delta.reshape(samples, 160, 64) @ a.transpose(1, 2)).reshape(10 * samples, -1)
                v[:, :2400], v[:, 2400:] = rows.numpy(), delta.sum(-1).reshape(10 * samples, -1).numpy()
                return np.matmul(v.T, v, out=out)
            return run
        return {"hand-written": {"V by hand, NumPy VᵀV": (make_conv, {"memory": "touched"})}}

    def make_rows():  # of any part
        w = [jnp.asarray(t.detach().numpy()) for t in problem.model.parameters()]
        x = jnp.asarray(problem.x.numpy())
        factor = jax.jit(lambda w, x: jax_factor(problem)(w, x).reshape(-1, problem.count))
        factor = factor.lower(w, x).compile()
        out = problem.memory()

        def run():
            v = np.asarray(factor(w, x))
            return np.matmul(v.T, v, out=out)
        return run
    ways = {"V by JAX, NumPy VᵀV": (make_rows, {"memory": "touched"})}
    if layer is None:
        return {"hand-written": ways}
    o, i = problem.extents()
    (first_o, second_o), _, (first_i, second_i), where_i = pair_tables(o, i + 1)
    count_o, count_i = len(first_o), len(first_i)
    begin = [0, *np.cumsum(np.arange(o, 0, -1)).tolist()]
    i1 = i + 1

    def numpy_pairs():  # one product of upper pairs; the scatter by threads
        block, (p, size) = problem.memory(), (problem.count, 4)
        w4 = np.lib.stride_tricks.as_strided(block, (o, i, o, i), (i * p * size, p * size, i * size, size))
        m = np.zeros((count_o, count_i), np.float32)
        edge = np.zeros((o, o, i1), np.float32)
        workers = ThreadPoolExecutor(threads)

        def scatter(a):
            tile = np.empty((i1, i1), np.float32)
            for b in range(a, o):
                np.take(m[begin[a] + b - a], where_i, out=tile, mode="clip")
                w4[a, :, b, :] = tile[:i, :i]
                if a != b:
                    w4[b, :, a, :] = tile[:i, :i]
                edge[a, b] = edge[b, a] = tile[i]

        def run():
            delta, a = (t.numpy() for t in hand_pieces(problem.model, problem.x, [layer])[0])
            pairs = np.matmul(delta.transpose(0, 2, 1), delta)[:, first_o, second_o]
            np.matmul(pairs.T, a[:, first_i] * a[:, second_i], out=m)
            list(workers.map(scatter, range(o)))
            edges(block, edge, np.transpose)
            return block
        return run

    def edges(block, edge, permute):
        """The rows and columns of the bias."""
        block[:o * i, o * i:] = permute(edge[:, :, :i], (0, 2, 1)).reshape(o * i, o)
        block[o * i:, :o * i] = edge[:, :, :i].reshape(o, o * i)
        block[o * i:, o * i:] = edge[:, :, i]

    def torch_pairs(mode):
        """`one`: one product of upper pairs. `each`: one for each o, which stays in the cache.
        `rows`: all pairs, each product straight into its place."""
        block, p = torch.from_numpy(problem.memory()), problem.count
        w4 = block.as_strided((o, i, o, i), (i * p, p, i, 1))
        edge = torch.zeros(o, o, i1)
        m = torch.zeros(count_o if mode == "one" else o, count_i)
        scratch = torch.zeros(o, i1 * i1)
        gather = torch.from_numpy(where_i.reshape(-1).astype(np.int64))
        one, two = (torch.from_numpy(t) for t in (first_o, second_o))
        here, there = (torch.from_numpy(t) for t in (first_i, second_i))

        def run():
            (delta, a), = hand_pieces(problem.model, problem.x, [layer])
            pairs = delta.transpose(1, 2) @ delta
            if mode == "rows":
                every = (a[:, :, None] * a[:, None, :]).permute(1, 0, 2).contiguous()  # [i, n, i']
                for k in range(o):
                    left = pairs[:, k].T.expand(i, o, samples)
                    torch.bmm(left, every[:i, :, :i], out=w4[k])
                edge.copy_((pairs.reshape(samples, -1).T @ a).reshape(o, o, i1))
                edges(block, edge, torch.permute)
                return block
            pairs, both = pairs[:, one, two], a[:, here] * a[:, there]
            if mode == "one":
                torch.mm(pairs.T, both, out=m)
            for k in range(o):
                low, high, out = begin[k], begin[k + 1], scratch[:o - k]
                rows = m[low:high] if mode == "one" else torch.mm(pairs[:, low:high].T, both, out=m[:o - k])
                torch.index_select(rows, 1, gather, out=out)
                tiles = out.reshape(o - k, i1, i1)
                w4[k, :, k:, :].copy_(tiles[:, :i, :i].permute(1, 0, 2))
                w4[k + 1:, :, k, :].copy_(tiles[1:, :i, :i])
                edge[k, k:] = edge[k:, k] = tiles[:, i]
            edges(block, edge, torch.permute)
            return block
        return run
    about = {"memory": "touched"}
    ways |= {"NumPy: one product of pairs": (numpy_pairs, about),
             "PyTorch: one product of pairs": (lambda: torch_pairs("one"), about),
             "PyTorch: upper pairs, a product for each o": (lambda: torch_pairs("each"), about),
             "PyTorch: all pairs, straight into place": (lambda: torch_pairs("rows"), about)}
    return {"hand-written": ways}


# --- comparing ---------------------------------------------------------------------------------------------

def exact_factor(problem):
    """V of the part in double precision, [samples·R, entries], or the gradient."""
    model = lenet().double()
    model.load_state_dict(problem.model.state_dict())
    names, every = zip(*model.named_parameters())
    values = tuple(t.detach() for t in every)
    x, n = problem.x.double(), problem.samples
    if problem.part == "gradient":
        slopes = torch.autograd.grad(F.cross_entropy(model(x), problem.y), every)
        return torch.cat([t.reshape(-1) for t in slopes]).numpy()
    chosen = tuple(values[s] for s in problem.slots)

    def of_sample(x, *part):
        w = dict(zip(names, values)) | {names[s]: t for s, t in zip(problem.slots, part)}
        return torch.func.functional_call(model, w, x[None])[0]

    def rows(x):
        z, back = torch.func.vjp(lambda *part: of_sample(x, *part), *chosen)
        p = torch.softmax(z, 0)
        s = torch.diag(p.sqrt()) - torch.outer(p.sqrt(), p)  # [R, outputs]
        parts = torch.func.vmap(back)(s / n**0.5)
        return torch.cat([t.reshape(10, -1) for t in parts], 1)
    pieces = [torch.func.vmap(rows)(piece).reshape(-1, problem.count) for piece in x.split(16)]
    return torch.cat(pieces).numpy()


class Checker:
    """Random entries and the norm of a part in double precision."""

    def __init__(self, problem, entries=20_000):
        self.problem, p = problem, problem.count
        exact, draw = exact_factor(problem), np.random.default_rng(0)
        if problem.kind == "vector":
            self.vector = exact if problem.part == "gradient" else (exact**2).sum(0)
            return
        ends = np.cumsum([t.numel() for t in problem.parameters])
        biases = np.concatenate([np.arange(e - t.numel(), e)
                                 for e, t in zip(ends[1::2], problem.parameters[1::2])])
        i, j = draw.integers(p, size=(2, entries))
        j[:entries // 4] = i[:entries // 4]
        j[-entries // 4:] = draw.choice(biases, entries - (entries * 3 // 4))
        swap = slice(-entries // 8, None)
        i[swap], j[swap] = j[swap].copy(), i[swap].copy()
        self.i, self.j, self.exact = i, j, exact
        self.values = self.products(exact, i, j)
        self.scale = np.abs(self.values).max()
        self.norm = np.linalg.norm(exact @ exact.T)

    @staticmethod
    def products(v, i, j):
        return np.concatenate([np.einsum("rk,rk->k", v[:, a].astype(np.float64), v[:, b])
                               for a, b in zip(np.array_split(i, 20), np.array_split(j, 20))])

    def apart(self, result, about):
        """The largest difference relative to the largest entry, or that of the norms."""
        kind = self.problem.kind
        if kind == "vector":
            result = list(result) if isinstance(result, (list, tuple)) else [result]
            whole = np.concatenate([np.asarray(t.detach() if isinstance(t, torch.Tensor) else t).reshape(-1)
                                    for t in result])
            return float(np.abs(whole - self.vector).max() / np.abs(self.vector).max())
        if kind == "apart":
            result, kind = rows_of(result), "factor"
        m = np.from_dlpack(result)
        m = m.reshape(-1, m.shape[-1])
        if kind == "factor":
            values, norm = self.products(m, self.i, self.j), np.linalg.norm((m @ m.T).astype(np.float64))
        elif "rows" in about:  # of a sample of the rows
            rows = np.resize(about["rows"], len(self.j))
            return float(np.abs(m[rows, self.j] - self.products(self.exact, rows, self.j)).max() / self.scale)
        else:
            i, j = self.i, self.j
            if about.get("order") == "rows":
                i, j = self.in_rows(i), self.in_rows(j)
            values = m[i, j]
            norm = np.sqrt(sum(float(np.vdot(m[k:k + 64], m[k:k + 64])) for k in range(0, len(m), 64)))
        return float(max(np.abs(values - self.values).max() / self.scale, abs(norm / self.norm - 1)))

    def in_rows(self, index):
        """Where an entry is if a bias follows its weight's row."""
        o, i = self.problem.extents()
        return np.where(index < o * i, index // i * (i + 1) + index % i, (index - o * i) * (i + 1) + i)


def seconds_of(run):
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def measure(problem, contenders, runs):
    """(peer, way) → summary, after each was compared; the contenders take turns where memory allows."""
    check, found, made = Checker(problem), {}, []

    def first(peer, way, make, about):
        """Makes, runs once and compares."""
        try:
            run = make()
            if problem.touched is not None:
                problem.touched.fill(np.nan)  # what is left of another contender's result would agree
            took, result = seconds_of(run)
        except Exception as error:  # a contender that cannot do it
            print(f"  {peer}: {way}: {type(error).__name__}: {error}", file=sys.stderr)
            return None, 0.0
        apart = check.apart(result, about)
        if not apart <= TOLERANCE:
            raise SystemExit(f"{problem.part}: {peer}, {way} is {apart:.1e} from double precision")
        found[peer, way] = {"memory": about["memory"], "apart": apart, "times": [took] if took > SLOW else []}
        if "scale" in about and about["scale"] != 1:
            found[peer, way]["scaled"] = about["scale"]
        return run, took

    if problem.part in ALONE:
        for peer, way, make, about in contenders:
            run, took = first(peer, way, make, about)
            for _ in range(0 if run is None or took > SLOW else 3 if took < 1 else 2):
                found[peer, way]["times"].append(seconds_of(run)[0])
            del run
            gc.collect()
    else:
        for peer, way, make, about in contenders:
            run, took = first(peer, way, make, about)
            if run is not None and took <= SLOW:
                # What takes long is called less, and needs no warming up.
                warm, calls = (2, -(-runs // 3)) if took < 0.15 else (1, 2) if took < 1 else (0, 1)
                made.append((peer, way, run, warm, calls, 3 if took < 1 else 2))
        for turn in range(3):
            for peer, way, run, warm, calls, turns in made:
                for k in range(warm + calls if turn < turns else 0):
                    took, result = seconds_of(run)
                    del result
                    if k >= warm:
                        found[peer, way]["times"].append(took)
    for summary in found.values():
        times = [1e3 * t * summary.get("scaled", 1.0) for t in summary.pop("times")]
        summary |= {"median": statistics.median(times), "fastest": min(times), "runs": len(times)}
    return found


def run_part(part, arguments):
    """Measures a part in this process; a dictionary for the JSON."""
    problem = Problem(part, arguments.samples)
    groups = [of_jax(problem), of_torch(problem), of_curvlinops(problem, arguments.columns),
              of_hand(problem, arguments.threads)]
    if part == "full":
        groups = [groups[0]] if not arguments.peers else groups  # 7.9 GB: the others only if asked for
    wanted = arguments.peers.split(",") if arguments.peers else PEERS
    contenders = [(peer, way, make, about) for group in groups for peer, ways in group.items()
                  for way, (make, about) in ways.items()
                  if peer in wanted and (arguments.ways or "") in way]
    load, before = os.getloadavg()[0], two_over_one(arguments.threads)
    found = measure(problem, contenders, arguments.runs)
    after = two_over_one(arguments.threads)
    peers = {}
    for (peer, way), summary in found.items():
        peers.setdefault(peer, {})[way] = summary
    return {"entries": problem.count, "peers": peers, "two_over_one": [[before, after]], "load": [load]}


# --- the command line --------------------------------------------------------------------------------------

def fastest(ways, *memory):
    """The fastest way into such memory, or None."""
    found = [(s["median"], name) for name, s in ways.items() if s["memory"] in memory]
    return min(found) if found else None


def table(report):
    """A line for each part; and those of fresh memory."""
    ours = report.get("hessblock", {})
    show = lambda ms: f"{ms:,.2f}" if ms < 100 else f"{ms:,.0f}"

    def line(cells):
        print("".join(f"{cell:{'<24' if k == 0 else '>14'}}" for k, cell in enumerate(cells)))
    print(f"N = {report['samples']}, {report['threads']} threads; ms, medians; * fresh memory, "
          "~ scaled from a sample; ratios: theirs over ours")
    for memory, suffix in (("touched", ""), ("fresh", "_fresh")):
        title = "" if memory == "touched" else "into fresh memory"
        line([title, *PEERS, *(["hessblock", *(f"/{p}" for p in PEERS)] if ours else []), "two/one"])
        for part in [p for p in PARTS if p in report["parts"]]:
            rows, cells, ratios = report["parts"][part], [], []
            own = ours.get(f"{part}{suffix}_ms")
            for peer in PEERS:
                ways = rows["peers"].get(peer, {})
                best = fastest(ways, *(["touched", "fresh"] if memory == "touched" else ["fresh"]))
                mark = "*" if best and memory == "touched" and ways[best[1]]["memory"] == "fresh" else ""
                if best and "scaled" in ways[best[1]]:
                    mark += "~"
                cells.append(show(best[0]) + mark if best else "-")
                ratios.append(f"{best[0] / own:.2f}" if best and own else "-")
            if memory == "fresh" and (set(cells) == {"-"} or part not in LAYERS + ["full", "factors"]):
                continue
            name = NAMES.get(part, f"{part}, {rows['entries']:,}²")
            rate = min(min(pair) for pair in rows["two_over_one"])
            line([name, *cells, *([show(own) if own else "-", *ratios] if ours else []), f"{rate:.2f}"])
    slow = [p for p, rows in report["parts"].items() if min(map(min, rows["two_over_one"])) < 1.8]
    if slow:
        print(f"two threads were not twice as fast as one (below 1.8): {', '.join(slow)}")


def merge(report, part, rows):
    """Several calls, each with some of the peers, make one part."""
    old = report["parts"].get(part)
    if old and old["entries"] == rows["entries"]:
        peers = {**old["peers"]}
        for peer, ways in rows["peers"].items():
            peers[peer] = peers.get(peer, {}) | ways
        rows = {**rows, "peers": peers, "two_over_one": old["two_over_one"] + rows["two_over_one"],
                "load": old["load"] + rows["load"]}
    report["parts"][part] = rows


def of_command(command, part):
    text = command.replace("{part}", part)
    out = subprocess.run(shlex.split(text), capture_output=True, check=True, text=True).stdout
    return json.loads(out[out.index("{"):])


def export_to(folder, samples):
    """The network as ONNX and the data as .npy, for hessblock's command line."""
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "examples"))
    from collections import OrderedDict

    from export import export
    folder, problem = pathlib.Path(folder), Problem("full", samples)
    folder.mkdir(parents=True, exist_ok=True)
    names = ["conv1", "tanh1", "pool1", "conv2", "tanh2", "pool2", "flatten", "dense1", "tanh3", "dense2",
             "tanh4", "dense3"]
    model = nn.Sequential(OrderedDict(zip(names, problem.model)))
    mapping = export(model, (1, 28, 28), folder / "model.onnx")
    np.save(folder / "inputs.npy", problem.x.numpy())
    np.save(folder / "targets.npy", problem.y.numpy())
    print(f"{folder}: model.onnx ({mapping['count']} parameters), inputs.npy, targets.npy of {samples} samples")


def check_file(path, part, samples):
    """Compares a part that hessblock wrote with JAX's, every entry."""
    problem = Problem(part, samples)
    given = np.load(path, mmap_mode="r")
    w = [jnp.asarray(t.detach().numpy()) for t in problem.model.parameters()]
    if part == "gradient":
        (make, _), = of_jax(problem)["JAX"].values()
        expected = np.concatenate([np.asarray(t).reshape(-1) for t in make()()])
        pairs = [(np.asarray(given).reshape(-1), expected)]
    else:
        v = jax.jit(jax_factor(problem))(w, jnp.asarray(problem.x.numpy())).reshape(-1, problem.count)
        if part == "diagonal":
            pairs = [(np.asarray(given).reshape(-1), np.asarray((v**2).sum(0)))]
        elif part in LAYERS + ["full"]:
            if given.shape != (problem.count, problem.count):
                raise SystemExit(f"{path} is {given.shape}, the part {problem.count}²")
            chunk = jax.jit(lambda rows, v: rows.T @ v)
            pairs = ((given[k:k + 1024], np.asarray(chunk(v[:, k:k + 1024], v)))
                     for k in range(0, problem.count, 1024))
        else:
            raise SystemExit(f"{part} cannot be compared")
    largest = apart = theirs = both = 0.0
    for got, expected in pairs:
        if got.shape != expected.shape:
            raise SystemExit(f"{path} is {got.shape}, the part {expected.shape}")
        difference = np.abs(got - expected)
        apart = max(apart, np.nan_to_num(difference.max(), nan=np.inf))
        largest = max(largest, np.abs(expected).max())
        theirs += float(np.vdot(expected, expected))
        both += float(np.vdot(difference, difference))
    print(f"{part}: largest difference {apart / largest:.1e} of the largest entry, "
          f"Frobenius {np.sqrt(both / theirs):.1e}")
    if not max(apart / largest, np.sqrt(both / theirs)) <= TOLERANCE:
        raise SystemExit(f"apart by more than {TOLERANCE:.0e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", help=f"parts, of {','.join(PARTS)}")
    parser.add_argument("--peers", help=f"peers, of {','.join(PEERS)}; all (for the full matrix JAX alone)")
    parser.add_argument("--ways", help="only the ways whose name has this text")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each, of which the median is taken")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and NumPy")
    parser.add_argument("--columns", type=int, default=256, help="columns of curvlinops timed, the rest scaled")
    parser.add_argument("--json", help="file to write to; what it holds of the same samples is kept")
    parser.add_argument("--hessblock", help="JSON file with hessblock's times")
    parser.add_argument("--hessblock-command", help="command that prints hessblock's times; {part} is replaced")
    parser.add_argument("--export", metavar="FOLDER", help="write model.onnx, inputs.npy, targets.npy and stop")
    parser.add_argument("--check", metavar="FILE.npy", help="compare a part that hessblock wrote, with --part")
    parser.add_argument("--part", help="the part of --check")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.export:
        return export_to(arguments.export, arguments.samples)
    if arguments.check:
        if arguments.part not in PARTS:
            parser.error(f"--part is one of {', '.join(PARTS)}")
        return check_file(arguments.check, arguments.part, arguments.samples)
    parts = arguments.only.split(",") if arguments.only else PARTS
    if not set(parts) <= set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")
    if arguments.child:
        pathlib.Path(arguments.child).write_text(json.dumps(run_part(parts[0], arguments)))
        return None

    versions = {"torch": torch.__version__, "jax": jax.__version__, "numpy": np.__version__}
    common = {"samples": arguments.samples, "threads": arguments.threads, "versions": versions}
    report = {**common, "parts": {}}
    kept = pathlib.Path(arguments.json) if arguments.json else None
    if kept and kept.exists():
        old = json.loads(kept.read_text())
        if all(old.get(key) == value for key, value in common.items()):
            report = old
    ours = report.setdefault("hessblock", {})
    if arguments.hessblock:
        ours |= json.loads(pathlib.Path(arguments.hessblock).read_text())
    environment = os.environ | {"OPENBLAS_NUM_THREADS": str(arguments.threads)}
    for k, part in enumerate(parts):
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", part, "--child", file.name],
                           check=True, env=environment)
            rows = json.loads(pathlib.Path(file.name).read_text())
        merge(report, part, rows)
        for peer, ways in rows["peers"].items():
            for way, s in ways.items():
                scaled = f", scaled by {s['scaled']:.1f}" if "scaled" in s else ""
                print(f"{part}: {peer}: {way}: {s['median']:,.2f} ms (fastest of {s['runs']} {s['fastest']:,.2f}"
                      f"{scaled}, {s['memory']}, {s['apart']:.0e} apart)", flush=True)
        print(f"{part}: two threads over one {' and '.join(f'{r:.2f}' for r in rows['two_over_one'][0])}")
        if arguments.hessblock_command and (k == 0 or "{part}" in arguments.hessblock_command):
            ours |= of_command(arguments.hessblock_command, part)
        if kept:
            kept.write_text(json.dumps(report, indent=1) + "\n")
    print()
    table(report)


if __name__ == "__main__":
    main()
