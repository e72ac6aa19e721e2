"""The time from a fresh module to its first block, beside the time of the export alone, in processes that have exported nothing yet.

The bound of three seconds on the machine of BENCHMARKS.md is in python/benches/lenet.py.
"""

from __future__ import annotations

import os
import subprocess
import sys

from conftest import extra

extra("torch")

START = """
import time, torch, numpy as np, hessblock as hb
from torch import nn
model = nn.Sequential(
    nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
    nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)).eval()
data = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))
begun = time.perf_counter()
"""
EXPORT = """
torch.onnx.export(model, (data[0],), dynamo=True, optimize=False, verbose=False)
print("seconds", time.perf_counter() - begun)
"""
BLOCK = """
problem = hb.Problem(model, nn.CrossEntropyLoss(), data, device="cpu")
block = np.asarray(hb.ggn(problem).block("3"))
assert block.shape == (2416, 2416)
print("seconds", time.perf_counter() - begun)
"""


def seconds(work: str) -> float:
    """The seconds that the work took in a process of its own."""
    run = subprocess.run([sys.executable, "-c", START + work], capture_output=True, text=True, check=True,
                         env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    return float(run.stdout.rsplit(maxsplit=1)[1])


def test_a_fresh_lenet5_has_its_first_block_in_little_more_than_the_time_of_its_export() -> None:
    measured = []
    for _ in range(4):  # other work on the machine may fall on one of the two
        export, block = seconds(EXPORT), seconds(BLOCK)
        if block <= 1.3 * export + 0.5:
            return
        measured.append((export, block))
    raise AssertionError(f"seconds of the export alone, and from the module to the block: {measured}")
