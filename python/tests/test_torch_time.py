"""The time from a fresh module to its first block, in a process that has exported nothing yet."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import time, torch, numpy as np, hessblock as hb
from torch import nn
model = nn.Sequential(
    nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
    nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))
data = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))
begun = time.perf_counter()
problem = hb.Problem(model, nn.CrossEntropyLoss(), data, device="cpu")
block = np.asarray(hb.ggn(problem).block("3"))
assert block.shape == (2416, 2416)
print(time.perf_counter() - begun)
"""


@pytest.mark.skipif(
    hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1) + 0.5, reason="other work takes the machine's time"
)
def test_a_fresh_lenet5_has_its_first_block_within_three_seconds() -> None:
    seconds = []
    for _ in range(4):  # other work on the machine only adds to it
        run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True,
                             env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
        seconds.append(float(run.stdout))
        if seconds[-1] < 3.0:
            return
    raise AssertionError(f"{min(seconds):.2f} s at best, of {seconds}")
