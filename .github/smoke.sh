#!/usr/bin/env bash
# Installs a wheel into a new virtual environment, away from the sources, and sees that module and command work: they have
# the same version, and the module computes a product of the digits model.
set -euo pipefail
digits=$(cd "$(dirname "$0")/../examples/digits" && pwd)
wheel=$(realpath "$1")
folder=$(mktemp -d)
cd "$folder"
python3 -m venv venv 2>/dev/null || python -m venv venv
programs=venv/bin
if [ -d venv/Scripts ]; then programs=venv/Scripts; fi
"$programs/python" -m pip install --quiet "$wheel"
"$programs/python" - "$("$programs/hessblock" --version)" "$digits" <<'PYTHON'
import sys
from pathlib import Path

import hessblock as hb
import numpy as np

command, digits = sys.argv[1], Path(sys.argv[2])
assert command.split()[1] == hb.__version__, f"the command is {command}, the module {hb.__version__}"
print("hessblock", hb.__version__)
print(hb.devices())
problem = hb.Problem(digits / "model.onnx", "cross-entropy", (digits / "images.npy", digits / "labels.npy"), samples=64, device="cpu")
G, v = hb.ggn(problem), np.ones(problem.size)
product, block = G @ v, np.asarray(G.full())
np.testing.assert_allclose(product, block @ v, rtol=1e-3, atol=1e-3 * abs(product).max())
print("G @ 1 has norm", np.linalg.norm(product))
PYTHON
