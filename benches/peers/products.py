"""Times gradient, G·v and H·v of LeNet-5 in JAX, PyTorch and curvlinops, and checks that they agree.

    pip install torch jax curvlinops-for-pytorch
    python benches/peers/products.py --json peers.json
    python benches/peers/products.py --hessblock hessblock.json      # puts its times beside

LeNet-5 on 28 × 28 (p = 44,426), 128 samples, mean cross-entropy, float32, PyTorch on `--threads` threads and
JAX with its own. All start from weights, data and vector in memory and give the product in memory. The rows
"again" start from what an earlier product left (the graph of PyTorch, the linearization of JAX), as a solver
at fixed weights does; all others run the network anew. PyTorch's and JAX's numbers are those of the fastest
of the ways listed in the JSON.

Contenders take turns of several calls, the first two of a turn untimed: the threads of the one before still
spin, and the caches hold its data. Two virtual cores are at times one physical core: `two_over_one` is how
much faster two threads multiply matrices than one; below about 1.8 the times say little.

`--hessblock` takes a JSON file with `gradient_ms`, `ggn_product_ms`, `hessian_product_ms`, or a program that
prints one.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

import curvlinops
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn as nn

from lenet import lenet, products as of_torch

SAMPLES, TOLERANCE = 128, 1e-4
ROWS = {"gradient": "gradient", "ggn_product": "G·v", "hessian_product": "H·v",
        "ggn_product_again": "G·v, again", "hessian_product_again": "H·v, again"}


def of_curvlinops(model, x, y, v):
    arguments = (model, nn.CrossEntropyLoss(), list(model.parameters()), [(x, y)])
    flat = torch.cat([part.reshape(-1) for part in v])
    ggn, hessian = (kind(*arguments, check_deterministic=False)
                    for kind in (curvlinops.GGNLinearOperator, curvlinops.HessianLinearOperator))
    return {"ggn_product": {"GGNLinearOperator": lambda: [ggn @ flat]},
            "hessian_product": {"HessianLinearOperator": lambda: [hessian @ flat]}}


def of_jax(model, x, y, v):
    weights, v = ([jnp.asarray(t.numpy()) for t in part] for part in (tuple(model.state_dict().values()), v))
    x, y = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())

    def pool(x):
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))

    def network(parameters, x):
        pairs = list(zip(parameters[::2], parameters[1::2]))
        for weight, bias in pairs[:2]:
            x = pool(jnp.tanh(jax.lax.conv(x, weight, (1, 1), "VALID") + bias[:, None, None]))
        x = x.reshape(len(x), -1)
        for weight, bias in pairs[2:-1]:
            x = jnp.tanh(x @ weight.T + bias)
        return x @ pairs[-1][0].T + pairs[-1][1]

    def of_outputs(z, y):
        return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1).mean()

    loss = lambda w, x, y: of_outputs(network(w, x), y)
    gradient = jax.grad(loss)

    def ggn(w, x, y, v):
        z, tangent = jax.jvp(lambda w: network(w, x), (w,), (v,))
        curved = jax.jvp(lambda z: jax.grad(of_outputs)(z, y), (z,), (tangent,))[1]
        return jax.vjp(lambda w: network(w, x), w)[1](curved)[0]

    def ggn_linear(w, x, y):
        z, forth = jax.linearize(lambda w: network(w, x), w)
        _, back = jax.vjp(lambda w: network(w, x), w)
        _, curve = jax.linearize(lambda z: jax.grad(of_outputs)(z, y), z)
        return forth, curve, back

    hessian = lambda w, x, y, v: jax.jvp(lambda w: gradient(w, x, y), (w,), (v,))[1]
    ready = lambda f, *arguments: (lambda: jax.block_until_ready(f(*arguments)))
    maps = jax.jit(ggn_linear)(weights, x, y)
    slope = jax.jit(lambda w, x, y: jax.linearize(lambda w: gradient(w, x, y), w)[1])(weights, x, y)
    return {
        "gradient": {"grad": ready(jax.jit(gradient), weights, x, y)},
        "ggn_product": {"jvp, vjp": ready(jax.jit(ggn), weights, x, y, v)},
        "hessian_product": {"jvp of grad": ready(jax.jit(hessian), weights, x, y, v)},
        "ggn_product_again": {"linearize": ready(
            jax.jit(lambda maps, v: maps[2](maps[1](maps[0](v)))[0]), maps, v)},
        "hessian_product_again": {"linearize": ready(jax.jit(lambda f, v: f(v)), slope, v)},
    }


def flat(result):
    return np.concatenate([np.asarray(t.detach() if isinstance(t, torch.Tensor) else t).reshape(-1)
                           for t in result])


def disagreements(peers):
    """row/peer/way → relative distance from PyTorch's first way."""
    found = {}
    for row in ROWS:
        reference = flat(next(iter(peers["PyTorch"][row.removesuffix("_again")].values()))())
        for peer, rows in peers.items():
            for way, run in rows.get(row, {}).items():
                apart = np.linalg.norm(flat(run()) - reference) / np.linalg.norm(reference)
                found[f"{row}/{peer}/{way}"] = float(apart)
    return found


def measure(peers, runs, turns=6):
    """peer → row → way → milliseconds (median and fastest), the contenders taking turns."""
    contenders = [(p, r, w, f) for p, rows in peers.items() for r, ways in rows.items()
                  for w, f in ways.items()]
    times = {(p, r, w): [] for p, r, w, _ in contenders}
    for _ in range(turns):
        for peer, row, way, run in contenders:
            for k in range(2 + -(-runs // turns)):
                start = time.perf_counter()
                run()
                if k >= 2:
                    times[peer, row, way].append(1e3 * (time.perf_counter() - start))
    result = {}
    for (peer, row, way), values in times.items():
        summary = {"median": statistics.median(values), "fastest": min(values)}
        result.setdefault(peer, {}).setdefault(row, {})[way] = summary
    return result


def two_over_one(threads, size=512, runs=15):
    """How much faster two threads multiply matrices than one."""
    a, rates = torch.randn(size, size), {}
    for count in (1, 2):
        torch.set_num_threads(count)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - start)
        rates[count] = statistics.median(times)
    torch.set_num_threads(threads)
    return rates[1] / rates[2]


def of_hessblock(path):
    """row → milliseconds."""
    path = pathlib.Path(path)
    text = path.read_text() if path.suffix == ".json" else subprocess.run(
        [path.resolve()], capture_output=True, check=True, text=True).stdout
    return {row: value for row in ROWS if (value := json.loads(text).get(f"{row}_ms")) is not None}


def table(columns):
    """Rows of milliseconds; a peer without a row has a dash."""
    print(f"{'ms':12}" + "".join(f"{name:>12}" for name in columns))
    for row, name in ROWS.items():
        print(f"{name:12}" + "".join(
            f"{columns[c][row]:12.2f}" if row in columns[c] else f"{'-':>12}" for c in columns))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=30, help="timed runs of each, of which the median is taken")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument("--json", help="file to write the times to")
    parser.add_argument("--hessblock", help="JSON file with hessblock's times, or a program that prints it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = lenet()
    x, y = torch.randn(SAMPLES, 1, 28, 28), torch.arange(SAMPLES) % 10
    v = tuple(torch.randn_like(p) for p in model.parameters())
    peers = {"JAX": of_jax(model, x, y, v), "PyTorch": of_torch(model, x, y, v),
             "curvlinops": of_curvlinops(model, x, y, v)}

    apart = disagreements(peers)
    wrong = {k: d for k, d in apart.items() if not d <= TOLERANCE}
    if wrong:
        raise SystemExit(f"the peers disagree: {wrong}")
    print(f"all agree to {max(apart.values()):.0e}")
    before = two_over_one(arguments.threads)
    load, times = os.getloadavg()[0], measure(peers, arguments.runs)
    after = two_over_one(arguments.threads)
    columns = {peer: {row: min(way["median"] for way in ways.values()) for row, ways in rows.items()}
               for peer, rows in times.items()}
    if arguments.hessblock:
        columns["hessblock"] = of_hessblock(arguments.hessblock)
    table(columns)
    print(f"two threads over one: {before:.2f} before, {after:.2f} after; load before {load:.1f}")
    if arguments.json:
        versions = {"torch": torch.__version__, "jax": jax.__version__, "numpy": np.__version__}
        pathlib.Path(arguments.json).write_text(json.dumps({
            "samples": SAMPLES, "parameters": sum(p.numel() for p in model.parameters()),
            "runs": arguments.runs, "threads": arguments.threads, "versions": versions,
            "milliseconds": columns, "ways": times, "disagreements": apart,
            "two_over_one": [before, after], "load_before": load}, indent=1) + "\n")


if __name__ == "__main__":
    main()
