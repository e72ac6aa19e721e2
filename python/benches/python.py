"""What Python adds to the library's own time, for LeNet-5 with 128 samples on two threads, and G @ v beside curvlinops.

    pip install curvlinops-for-pytorch
    cargo bench --no-run --bench beside_python
    python python/benches/python.py [--json FILE]

Rust and Python take turns on the same network and data (`benches/beside_python.rs`); medians. The time from a fresh module to
its first block is that of processes of their own, after `import torch, hessblock`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THREADS = 2
os.environ.setdefault("RAYON_NUM_THREADS", str(THREADS))

import hessblock as hb  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 128
LAYER = "7"  # the first linear layer, 256 → 120
RUNS = 15


def lenet() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """Returns LeNet-5 with images and labels."""
    sys.path.insert(0, str(ROOT / "benches/peers"))
    from lenet import lenet

    torch.manual_seed(0)
    return lenet().eval(), torch.randn(SAMPLES, 1, 28, 28), torch.randint(0, 10, (SAMPLES,))


def problem() -> tuple[hb.Problem, torch.nn.Module, torch.Tensor, torch.Tensor]:
    """Returns the problem, and what it was made of."""
    model, x, y = lenet()
    return hb.Problem(model, torch.nn.CrossEntropyLoss(), (x, y), device="cpu"), model, x, y


def fresh() -> float:
    """Returns the seconds from a module to its first block."""
    model, x, y = lenet()
    start = time.perf_counter()
    np.asarray(hb.ggn(hb.Problem(model, torch.nn.CrossEntropyLoss(), (x, y), device="cpu")).block(LAYER))
    return time.perf_counter() - start


def write(p: hb.Problem, x: torch.Tensor, y: torch.Tensor, folder: Path) -> list[str]:
    """Writes the network with its weights, images and labels; returns the paths."""
    import onnx
    from onnx import numpy_helper

    graph = p._frontend.graph()
    model = onnx.load_from_string(graph.proto)
    weights = dict(p._frontend.arrays())
    inputs = [each for each in model.graph.input if graph.aliases.get(each.name, each.name) not in weights]
    for each in model.graph.input:
        name = graph.aliases.get(each.name, each.name)
        if name in weights:
            model.graph.initializer.append(numpy_helper.from_array(np.array(weights[name]), each.name))
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    paths = [str(folder / name) for name in ("model.onnx", "x.npy", "y.npy")]
    onnx.save(model, paths[0])
    np.save(paths[1], x.numpy())
    np.save(paths[2], y.numpy())
    return paths


class Library:
    """The library itself, in a process that takes a task per line."""

    def __init__(self, paths: list[str]) -> None:
        build = ["cargo", "bench", "--locked", "--no-run", "--bench", "beside_python", "--message-format", "json"]
        messages = subprocess.run(build, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.splitlines()
        made = [message for line in messages if (message := json.loads(line)).get("executable")]
        (program,) = [message["executable"] for message in made if message["target"]["name"] == "beside_python"]
        self.process = subprocess.Popen([program, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def milliseconds(self, task: str) -> float:
        """Returns the time of one call."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def milliseconds(work) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def turns(ways: dict) -> dict[str, float]:
    """Returns the median milliseconds of each way; a way returns its own. Two rounds are not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(RUNS + 2):
        for name, way in ways.items():
            way()  # caches are the way's own by then
            found = way()
            if turn > 1:
                times[name].append(found)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the times to a file")
    parser.add_argument("--fresh", action="store_true", help="print the seconds from a module to its first block")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.fresh:
        print(fresh())
        return
    command = [sys.executable, __file__, "--fresh"]
    first = [float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(3)]
    p, model, x, y = problem()
    G = hb.ggn(p)
    with tempfile.TemporaryDirectory() as folder:
        library = Library(write(p, x, y, Path(folder)))
        v = np.cos(1.0 + np.arange(p.size))
        tensor = torch.from_numpy(v.astype(np.float32))
        blocks = turns(
            {
                "library": lambda: library.milliseconds(f"block {LAYER}"),
                "python": lambda: milliseconds(lambda: np.asarray(G.block(LAYER))),
            }
        )
        ways = {
            "library": lambda: library.milliseconds("product"),
            "python": lambda: milliseconds(lambda: G @ v),
            "python, tensor": lambda: milliseconds(lambda: G @ tensor),
        }
        try:
            from curvlinops import GGNLinearOperator
        except ModuleNotFoundError:
            print("curvlinops is not installed", file=sys.stderr)
        else:
            parameters = [each for each in model.parameters() if each.requires_grad]
            other = GGNLinearOperator(model, torch.nn.CrossEntropyLoss(), parameters, [(x, y)])
            off = (torch.as_tensor(other @ tensor) - G @ tensor).abs().max() / (G @ tensor).abs().max()
            assert off < 1e-4, off
            ways["curvlinops"] = lambda: milliseconds(lambda: other @ tensor)
        products = turns(ways)
    print(f"LeNet-5, p = {p.size}, N = {SAMPLES}, {THREADS} threads on {p.device}")
    print(f"fresh module to its first block  {statistics.median(first):8.2f} s")
    for title, found in (("block of fc1, 30,840 × 30,840", blocks), ("G @ v", products)):
        print(title)
        for name, each in found.items():
            print(f"  {name:<20} {each:10.2f} ms   {each / found['library']:.2f} × the library")
    if options.json:
        result = {"first_block_seconds": statistics.median(first), "block_ms": blocks, "product_ms": products}
        Path(options.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
