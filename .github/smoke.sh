#!/usr/bin/env bash
# Installs a wheel into a new virtual environment, away from the sources, and sees that module and command work.
set -euo pipefail
wheel=$(realpath "$1")
folder=$(mktemp -d)
cd "$folder"
python3 -m venv venv 2>/dev/null || python -m venv venv
programs=venv/bin
if [ -d venv/Scripts ]; then programs=venv/Scripts; fi
"$programs/python" -m pip install --quiet "$wheel"
"$programs/python" -c "import hessblock; from hessblock import _core; print('hessblock', _core.__version__)"
"$programs/python" -c "import hessblock as hb; print(hb.devices())"
"$programs/hessblock" --version
