"""One job of an array: makes a share of the whole Hessian; the last argument "merge" finishes the result.

    sbatch --array=1-8 --wrap "python job_array.py hessian.zarr 8"
    python job_array.py hessian.zarr 8 merge

Without a scheduler, `SLURM_ARRAY_TASK_ID=3 python job_array.py hessian.zarr 8` makes the third share.
"""

import sys
from pathlib import Path

import hessblock as hb

DIGITS = Path(__file__).parents[2] / "examples" / "digits"

path, count = sys.argv[1], int(sys.argv[2])
p = hb.Problem(str(DIGITS / "model.onnx"), "cross-entropy", (str(DIGITS / "images.npy"), str(DIGITS / "labels.npy")), device="cpu")
shards = hb.shards(hb.hessian(p).full(), path, count)
if sys.argv[3:] == ["merge"]:
    shards.merge()
    print(hb.open(path))
else:
    shards.from_env().write(progress=True)
