"""The examples, and the Python code of the README and the documentation, run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import extra

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "python" / "examples"


def run(arguments, folder, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(page):
    """The code of a page, all blocks that follow its first import of hessblock."""
    found = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    first = next(k for k, block in enumerate(found) if "import" in block and "hessblock as hb" in block)
    return "\n".join(block for block in found[first:] if "import json" not in block and "from export" not in block)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "python.md"], ids=lambda page: page.name)
def test_code_of_a_page_runs(page, tmp_path):
    extra("torch")
    code = tmp_path / "page.py"
    code.write_text(blocks(page), "utf-8")
    printed = run([code], tmp_path)
    if page.name == "README.md":
        # To the three digits that the page says; torch, which draws the weights, is pinned.
        line = re.search(r"print\(G\.trace\(\), H\.trace\(\)\) +# ([\d.]+) and ([\d.]+)", page.read_text("utf-8"))
        traces = [float(number) for number in printed.split()[:2]]
        assert traces == pytest.approx([float(number) for number in line.groups()], abs=5.1e-4)


def test_quickstart_runs_and_draws(tmp_path):
    extra("torch")
    printed = run([EXAMPLES / "quickstart.py"], tmp_path)
    assert "epoch 4" in printed and "passed" in printed
    assert (tmp_path / "quickstart.png").stat().st_size > 1000


def test_jax_example_agrees_with_jax(tmp_path):
    extra("jax2onnx")
    printed = run([EXAMPLES / "jax_hessian.py"], tmp_path)
    assert float(printed.rsplit(maxsplit=1)[1]) < 1e-10


def test_job_array_makes_one_result(tmp_path):
    for share in ("1", "2"):
        run([EXAMPLES / "job_array.py", "h.zarr", "2"], tmp_path, SLURM_ARRAY_TASK_ID=share)
    assert "full" in run([EXAMPLES / "job_array.py", "h.zarr", "2", "merge"], tmp_path)
