"""The Python package beside the library, and beside curvlinops, on LeNet-5 (28×28, tanh, p = 44,426), 128 samples.

    HESSBLOCK_BENCH_JSON=lenet.json cargo bench --bench lenet -- dense1 dense2
    OMP_NUM_THREADS=2 RAYON_NUM_THREADS=2 python python/benches/lenet.py lenet.json

Every time is a median of several runs on the same threads. The library's products are measured by `hb.bench` in this process, in
turns with those of the package. curvlinops is optional (`pip install curvlinops-for-pytorch`).
"""

import json
import statistics
import subprocess
import sys
import time

import hessblock as hb
import numpy as np
import torch
from torch import nn


class LeNet5(nn.Module):
    """LeNet-5 with tanh."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.pool, self.flatten = nn.AvgPool2d(2), nn.Flatten()
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        """Returns logits, [N, 10]."""
        x = self.pool(torch.tanh(self.conv1(x)))
        x = self.flatten(self.pool(torch.tanh(self.conv2(x))))
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))


def seconds(run, turns=7):
    """The median of several runs, after one that is not counted."""
    run()
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


FIRST = """
import time, torch
start = time.perf_counter()
import hessblock as hb, numpy as np
from lenet import LeNet5
torch.manual_seed(0)
model, x, y = LeNet5().eval(), torch.randn(128, 1, 28, 28), torch.randint(0, 10, (128,))
first = time.perf_counter()
p = hb.Problem(model, torch.nn.CrossEntropyLoss(), (x, y))
np.asarray(hb.ggn(p).block("fc2"))
print(time.perf_counter() - first)
"""


def main():
    """Prints a table."""
    library = json.load(open(sys.argv[1])) if len(sys.argv) > 1 else None
    torch.manual_seed(0)
    torch.set_num_threads(2)
    model, x, y = LeNet5().eval(), torch.randn(128, 1, 28, 28), torch.randint(0, 10, (128,))
    loss = nn.CrossEntropyLoss()
    p = hb.Problem(model, loss, (x, y), device="cpu")
    G, H = hb.ggn(p), hb.hessian(p)
    v = torch.randn(p.size)

    each = [float(subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True, cwd=sys.path[0]).stdout) for _ in range(5)]
    print(f"fresh module to its first block, new process: {statistics.median(each):.2f} s ({min(each):.2f} to {max(each):.2f})")
    print(f"update: {1e3 * seconds(p.update, 31):.2f} ms")

    found = hb.bench("cpu", cases=["lenet5/dense2", "lenet5/ggn-product", "lenet5/hessian-product"], seconds=2.0).to_dict()
    cases = {case["name"]: case for case in found["devices"][0]["cases"]}
    print(json.dumps(cases, indent=1)[:1500] if "-v" in sys.argv else "", end="")
    own = {
        "lenet5/ggn-product": seconds(lambda: G @ v, 101),
        "lenet5/hessian-product": seconds(lambda: H @ v, 101),
        "lenet5/dense2": seconds(lambda: np.asarray(G.block("fc2")), 15),
    }
    for name, mine in own.items():
        theirs = cases[name]["seconds"]
        print(f"{name:24} package {1e3 * mine:9.2f} ms   library {1e3 * theirs:9.2f} ms   ratio {mine / theirs:.2f}")
    if library is not None:
        mine = seconds(lambda: np.asarray(G.block("fc1")), 5)
        print("lenet5/dense1, 3.8 GB: package", f"{1e3 * mine:.0f} ms, library", library)

    try:
        from curvlinops import GGNLinearOperator, HessianLinearOperator
    except ImportError:
        return
    parameters = dict(model.named_parameters())
    for kind, made, ours in ((GGNLinearOperator, G, own["lenet5/ggn-product"]), (HessianLinearOperator, H, own["lenet5/hessian-product"])):
        try:
            operator = kind(model, loss, parameters, [(x, y)])
        except Exception:  # older versions take a list
            operator = kind(model, loss, list(parameters.values()), [(x, y)])
        theirs = seconds(lambda operator=operator: operator @ v, 31)
        off = float((operator @ v - made @ v).norm() / (made @ v).norm())
        print(f"{kind.__name__:24} {1e3 * theirs:9.2f} ms, {theirs / ours:.1f} times the package; difference {off:.1e}")


if __name__ == "__main__":
    main()
