"""Times on a GPU in PyTorch what `benches/device.rs` times in hessblock, and puts both side by side.

    HESSBLOCK_BENCH_DEVICE=NVIDIA cargo bench --bench device -- --json hessblock.json
    python benches/peers/device.py --json peers.json --hessblock hessblock.json

float32 with TF32 off; with TF32 on for information (its error beside it). CUDA events, medians, each way compared
with double precision first (random entries, to 1e-4 of the largest). All is on the device and stays there. Blocks are
whole in PyTorch, which has no product of a matrix with itself that leaves half of it out; hessblock makes the tiles on
and above the diagonal. A ratio is PyTorch's fastest way without TF32 over hessblock.

- gemm: A·B. dense_*: VᵀV' of 1,280 rows. outer_N_*: a tile of a dense layer's block of N samples, by VᵀV' of rows
  formed before, and by one product of P and the pairs of inputs, put in order.
- dense1, full: VᵀV of LeNet-5 where V is there, and for dense1 the pairs by hand, straight into their place;
  *_from_data: from data on, V by hand. conv1: VᵀV of 1,280 × 36,864 random rows, layer1.0.conv1 of a ResNet-18 in size;
  rows_of_conv1: the rows of V of that convolution, from Δ and its inputs.
- gradient, ggn_product, hessian_product: autograd and torch.func; diagonal and factors by hand and by vmap of vjp.

`--scale X` takes a share of the entries of every matrix, as there. Without CUDA everything runs on the CPU: that shows
that the script works, and nothing else.
"""

import argparse
import json
import math
import pathlib
import statistics
import time

import torch
import torch.nn.functional as F

import lenet as by_hand

SAMPLES, TOLERANCE, RUN = 128, 1e-4, 0.01
NAMES = ["gemm", "dense_tile", "dense_large",
         *(f"outer_{n}_{kind}" for n in (16, 64, 128) for kind in ("tile", "large")),
         "dense1", "dense1_from_data", "full", "full_from_data",
         "gradient", "ggn_product", "hessian_product", "diagonal", "factors", "conv1", "rows_of_conv1"]


class Problem:
    """The device, sizes, and LeNet-5 with its data."""

    def __init__(self, device, scale, limit):
        torch.manual_seed(0)
        self.device, self.scale, self.limit = device, scale, limit
        self.model = by_hand.lenet().to(device)
        self.x = torch.randn(SAMPLES, 1, 28, 28, device=device)
        self.y = torch.arange(SAMPLES, device=device) % 10

    def edge(self, full):
        return min(full, max(16, int(full * math.sqrt(self.scale))))

    def numbers(self, *shape):
        return torch.rand(*shape, device=self.device) * 2 - 1

    def places(self, rows, columns, count=64):
        draw = torch.Generator().manual_seed(1)
        return [torch.randint(n, (count,), generator=draw).to(self.device) for n in (rows, columns)]


def apart(found, expected):
    """The largest difference relative to the largest entry."""
    return float((found.double() - expected).abs().max() / expected.abs().max())


def product(left, right, out=None):
    """LᵀR, and the check of some entries."""
    shape = left.shape[1], right.shape[1]
    out = torch.empty(shape, device=left.device) if out is None else out
    return lambda: torch.mm(left.T, right, out=out)


def entries(problem, left, right):
    """result → how far entries of LᵀR are from double precision."""
    i, j = problem.places(left.shape[1], right.shape[1])
    expected = (left[:, i].double() * right[:, j].double()).sum(0)
    return lambda result: apart(result[i, j], expected)


# Each case gives: its size, result → error, and way → function. Ways are made when the case begins.

def gemm(problem):
    n = problem.edge(4096)
    a, b = problem.numbers(n, n), problem.numbers(n, n)
    out = torch.empty_like(a)
    return n, entries(problem, a.T, b), {"a @ b": lambda: torch.mm(a, b, out=out)}


def dense(problem, full):
    n = problem.edge(full)
    left, right = problem.numbers(1280, n), problem.numbers(1280, n)
    return n, entries(problem, left, right), {"VᵀV'": product(left, right)}


def outer(problem, samples, large):
    r, o, i = 10, 120, 256
    edge = max(i, min(problem.edge(16_384 if large else 2048), problem.limit) // i * i)
    delta, a = problem.numbers(samples, r, o), problem.numbers(samples, i)
    v = (delta[..., None] * a[:, None, None]).reshape(samples * r, o * i)
    left, right = v[:, :edge].contiguous(), v[:, o * i - edge:].contiguous()
    k = edge // i
    one, two = delta[:, :, :k].contiguous(), delta[:, :, o - k:].contiguous()
    out = torch.empty(edge, edge, device=problem.device)

    def pairs():
        p = (one.transpose(1, 2) @ two).reshape(samples, -1)
        m = p.T @ (a[:, :, None] * a[:, None]).reshape(samples, -1)
        out.reshape(k, i, k, i).copy_(m.reshape(k, k, i, i).permute(0, 2, 1, 3))
        return out

    def rows():  # for each input a product of all pairs of outputs, where its rows lie
        p = (one.transpose(1, 2) @ two).reshape(samples, k, k).permute(1, 2, 0)
        for row in range(k):
            torch.matmul(p[row][None] * a.T[:, None], a, out=out.reshape(k, i, k, i)[row])
        return out
    ways = {"VᵀV' of rows": product(left, right, out), "one product of pairs, in order": pairs,
            "a product for each output": rows}
    return edge, entries(problem, left, right), ways


def block(problem, layers, full, from_data):
    size = problem.edge(full)
    make = lambda: by_hand.rows(by_hand.pieces(problem.model, problem.x, layers))[:, :size].contiguous()
    v = make()
    exact = by_hand.rows(by_hand.pieces(problem.model.double(), problem.x.double(), layers))[:, :size]
    problem.model.float()
    check, out = entries(problem, exact, exact), torch.empty(size, size, device=problem.device)
    del exact
    ways = {"V by hand, VᵀV": lambda: torch.mm((w := make()).T, w, out=out)} if from_data \
        else {"VᵀV": product(v, v, out)}
    if layers == [2] and size == full:
        delta, a = by_hand.pieces(problem.model, problem.x, layers)[0]
        o, i = delta.shape[2], a.shape[1] - 1
        w4 = out.as_strided((o, i, o, i), (i * full, full, i, 1))

        def pairs():  # all pairs of outputs, each product straight into its place
            delta, a = by_hand.pieces(problem.model, problem.x, layers)[0] if from_data else held
            p = delta.transpose(1, 2) @ delta
            every = (a[:, :, None] * a[:, None, :]).permute(1, 0, 2).contiguous()  # [i, n, i']
            for k in range(o):
                torch.bmm(p[:, k].T.expand(i, o, SAMPLES), every[:i, :, :i], out=w4[k])
            edge = (p.reshape(SAMPLES, -1).T @ a).reshape(o, o, i + 1)
            out[:o * i, o * i:] = edge[:, :, :i].permute(0, 2, 1).reshape(o * i, o)
            out[o * i:, :o * i] = edge[:, :, :i].reshape(o, o * i)
            out[o * i:, o * i:] = edge[:, :, i]
            return out
        held = delta, a
        ways["pairs by hand, straight into place"] = pairs
    return size, check, ways


def flat(parts):
    return torch.cat([part.reshape(-1) for part in parts])


def products(problem, row):
    v = tuple(problem.numbers(*p.shape) for p in problem.model.parameters())
    exact = by_hand.lenet().to(problem.device).double()
    exact.load_state_dict(problem.model.state_dict())
    double = by_hand.products(exact, problem.x.double(), problem.y, tuple(t.double() for t in v))
    expected = flat(next(iter(double[row].values()))()).detach()
    ways = by_hand.products(problem.model, problem.x, problem.y, v)[row]
    check = lambda result: apart(flat(result).detach(), expected)
    return len(expected), check, ways


def rows_by_vjp(problem, model, x):
    """V of all parameters by vmap of vjp, [samples·R, p]."""
    names, every = zip(*model.named_parameters())
    values = tuple(t.detach() for t in every)

    def of_sample(x):
        network = lambda *w: torch.func.functional_call(model, dict(zip(names, w)), x[None])[0]
        z, back = torch.func.vjp(network, *values)
        p = torch.softmax(z, 0)
        s = torch.diag(p.sqrt()) - torch.outer(p.sqrt(), p)  # [R, outputs]
        return torch.cat([t.reshape(10, -1) for t in torch.func.vmap(back)(s / SAMPLES**0.5)], 1)
    v = torch.func.vmap(of_sample)(x)
    return v.reshape(-1, v.shape[-1])


def factors(problem, diagonal):
    exact = by_hand.lenet().to(problem.device).double()
    exact.load_state_dict(problem.model.state_dict())
    v = rows_by_vjp(problem, exact, problem.x.double())
    layers = list(range(5))
    pieces = lambda: by_hand.pieces(problem.model, problem.x, layers)
    if diagonal:
        expected = (v**2).sum(0)
        ways = {"squares of Δ and a": lambda: by_hand.squares(pieces()),
                "vmap of vjp, squares": lambda: (rows_by_vjp(problem, problem.model, problem.x)**2).sum(0)}
        return len(expected), lambda result: apart(result, expected), ways
    p, expected = v.shape[1], v[:, 156:2572].clone()
    of_conv2 = lambda v: apart(v[:, -expected.shape[1]:], expected)
    by_pieces = lambda: ((made := pieces())[2:], by_hand.rows(made[:2]))
    ways = {"by hand: V of convolutions, Δ and a of others": by_pieces,
            "vmap of vjp: V of all": lambda: (None, rows_by_vjp(problem, problem.model, problem.x)[:, :2572])}
    return p, lambda result: of_conv2(result[1]), ways


def conv1(problem):
    size = problem.edge(36_864)
    v = problem.numbers(1280, size)
    return size, entries(problem, v, v), {"VᵀV": product(v, v)}


def rows_of_conv1(problem):
    samples = max(1, int(8 * problem.scale))
    x, delta = problem.numbers(samples, 64, 56, 56), problem.numbers(samples, 10 * 64, 56 * 56)
    make = lambda x, delta: (delta @ F.unfold(x, 3, padding=1).transpose(1, 2)).reshape(samples * 10, -1)
    expected = make(x.double(), delta.double())
    check = lambda result: apart(result, expected)
    return samples * 10, check, {"unfold, one product for each sample": lambda: make(x, delta)}


def case_of(problem, name):
    if name.startswith("outer_"):
        _, samples, kind = name.split("_")
        return outer(problem, int(samples), kind == "large")
    from_data = name.endswith("_from_data")
    return {"gemm": lambda: gemm(problem), "dense_tile": lambda: dense(problem, 2048),
            "dense_large": lambda: dense(problem, 8192),
            "dense1": lambda: block(problem, [2], 30_840, from_data),
            "full": lambda: block(problem, [0, 1, 2, 3, 4], 44_426, from_data),
            "diagonal": lambda: factors(problem, True), "factors": lambda: factors(problem, False),
            "conv1": lambda: conv1(problem), "rows_of_conv1": lambda: rows_of_conv1(problem),
            }.get(name.removesuffix("_from_data"), lambda: products(problem, name))()


# --- timing ------------------------------------------------------------------------------------------------

def precision(tf32):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32


def milliseconds(run, cuda, seconds):
    """The median of several measurements, each of enough calls to take a hundredth of a second."""
    def once(batch):
        if not cuda:
            start = time.perf_counter()
            for _ in range(batch):
                run()
            return (time.perf_counter() - start) / batch
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(batch):
            run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / batch
    once(1)
    batch = min(256, max(1, math.ceil(RUN / once(1))))
    times, begin = [], time.perf_counter()
    while len(times) < 3 or len(times) < 31 and time.perf_counter() - begin < seconds:
        times.append(once(batch))
    return 1e3 * statistics.median(times)


def measure(problem, name, seconds):
    cuda = problem.device.type == "cuda"
    precision(False)
    size, check, ways = case_of(problem, name)
    found = {}
    for way, run in ways.items():
        try:
            error = check(run())
            if not error <= TOLERANCE:
                raise SystemExit(f"{name}: {way} is {error:.1e} from double precision")
            row = {"ms": milliseconds(run, cuda, seconds), "apart": error}
            if cuda:
                precision(True)
                row |= {"tf32_apart": check(run()), "tf32_ms": milliseconds(run, cuda, seconds)}
            found[way] = row
        except torch.cuda.OutOfMemoryError as error:
            print(f"  {name}: {way}: {error}")
        finally:
            precision(False)
    return {"size": size, "ways": found}


def bandwidth(problem, seconds):
    """GB/s written by a fill, and read and written by a copy, of 1 GiB."""
    count = int(2**28 * min(1.0, problem.scale))
    a, b = (torch.zeros(count, device=problem.device) for _ in range(2))
    cuda = problem.device.type == "cuda"
    write, copy = milliseconds(lambda: a.fill_(2.0), cuda, seconds), milliseconds(lambda: a.copy_(b), cuda, seconds)
    return {"write_gbs": 4e-6 * count / write, "copy_gbs": 8e-6 * count / copy}


def table(report, ours):
    show = lambda ms: "-" if ms is None else f"{ms:,.3f}" if ms < 100 else f"{ms:,.0f}"
    line = lambda cells: print("".join(f"{cell:{'<19' if k == 0 else '>12'}}" for k, cell in enumerate(cells[:-1]))
                               + "  " + cells[-1])
    line(["ms", "size", "PyTorch", "TF32", "hessblock", "of peak", "ratio", "PyTorch's fastest way"])
    peak = (ours.get("peak", {}).get("flops") or 0) * 1e-9
    for name in NAMES:
        theirs, own = report["cases"].get(name), ours.get("cases", {}).get(name)
        if not theirs and not own:
            continue
        size = (theirs or own)["size"]
        ways = [(row["ms"], way, row) for way, row in (theirs or {"ways": {}})["ways"].items()]
        best = min(ways, key=lambda found: found[0], default=(None, "", {}))
        tf32 = min((row["tf32_ms"] for *_, row in ways if "tf32_ms" in row), default=None)
        alike = theirs and own and theirs["size"] == own["size"]
        ratio = f"{best[0] / own['ms']:.2f}" if alike and best[0] else "-" if not (theirs and own) else "sizes!"
        share = f"{100 * own['gflops'] / peak:.0f} %" if own and peak and own["gflops"] else "-"
        line([name, f"{size:,}", show(best[0]), show(tf32), show(own and own["ms"]), share, ratio, best[1]])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", help="cases whose name has one of these texts, with commas between them")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the entries of every matrix")
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds that a way is timed for")
    parser.add_argument("--json", help="file to write to")
    parser.add_argument("--hessblock", help="JSON file of `cargo bench --bench device`")
    arguments = parser.parse_args()
    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else "CPU: only to try the script, these times say nothing of a GPU"
    print(f"PyTorch {torch.__version__} on {name}; scale {arguments.scale}")
    ours = json.loads(pathlib.Path(arguments.hessblock).read_text()) if arguments.hessblock else {}
    if ours and ours["scale"] != arguments.scale:
        raise SystemExit(f"hessblock's scale was {ours['scale']}")
    # The largest tile of hessblock's device.
    limit = math.isqrt(ours["max_tensor_bytes"] // 4) if ours else 16_384
    problem = Problem(torch.device("cuda" if cuda else "cpu"), arguments.scale, limit)
    report = {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "scale": arguments.scale,
              "bandwidth": bandwidth(problem, arguments.seconds), "cases": {}}
    print("written {write_gbs:,.0f} GB/s, copied {copy_gbs:,.0f}".format(**report["bandwidth"]))
    for case in NAMES:
        if arguments.only and not any(text in case for text in arguments.only.split(",")):
            continue
        found = report["cases"][case] = measure(problem, case, arguments.seconds)
        if cuda:
            torch.cuda.empty_cache()
        for way, row in found["ways"].items():
            tf32 = f"; TF32 {row['tf32_ms']:,.3f}, {row['tf32_apart']:.0e} apart" if cuda else ""
            print(f"{case}: {way}: {row['ms']:,.3f} ms, {row['apart']:.0e} apart{tf32}", flush=True)
        if arguments.json:
            pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")
    print()
    table(report, ours)


if __name__ == "__main__":
    main()
