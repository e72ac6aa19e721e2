#!/usr/bin/env bash
#SBATCH --job-name=hessblock
#SBATCH --array=1-8
#SBATCH --requeue
#SBATCH --output=hessblock-%A_%a.log
# One share of the tiles per task of a Slurm job array; the folder of --out is one that all nodes see. A task that is
# requeued, or submitted again, goes on with the tiles that it has made (one alone with SHARDS=8: --array=3 --export=ALL,SHARDS=8).
#
#   job=$(sbatch --parsable examples/shards/slurm.sh model.onnx --inputs x.npy --targets y.npy \
#       --loss cross-entropy --part full --out h.zarr)
#   sbatch --dependency=afterok:$job --wrap "hessblock merge h.zarr"
set -euo pipefail
# Where the scheduler gives a task fewer cores than the node has, no more threads than that.
export RAYON_NUM_THREADS="${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-0}}"
exec "${HESSBLOCK:-hessblock}" blocks "$@" --shard "$SLURM_ARRAY_TASK_ID/${SHARDS:-$SLURM_ARRAY_TASK_COUNT}"
