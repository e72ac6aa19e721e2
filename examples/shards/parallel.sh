#!/usr/bin/env bash
# SHARDS shares of the tiles (4 unless set) by GNU parallel, on this machine or, with its --sshlogin in PARALLEL, on several
# that see the folder of --out; then the result is finished. Run again, it goes on with what is missing.
#
#   SHARDS=8 PARALLEL="--sshlogin node1,node2 --workdir $PWD" \
#       examples/shards/parallel.sh h.zarr model.onnx --inputs x.npy --targets y.npy --loss cross-entropy --part full
set -euo pipefail
out=$1
shift
shards=${SHARDS:-4}
hessblock=${HESSBLOCK:-hessblock}
parallel -q --halt soon,fail=1 --line-buffer --tagstring 'shard {}' \
    "$hessblock" blocks "$@" --out "$out" --shard "{}/$shards" ::: $(seq "$shards")
"$hessblock" merge "$out"
