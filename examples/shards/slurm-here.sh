#!/usr/bin/env bash
# Tests slurm.sh on a Slurm of one node: this machine, from Debian's packages, gone again at the end. As root:
#
#   apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
#   cargo build --release && HESSBLOCK=$PWD/target/release/hessblock examples/shards/slurm-here.sh
#
# The full matrix of examples/digits by an array of eight tasks, one of which is killed on the way and requeued; then the merge;
# the result is compared with that of one process, byte by byte.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
digits=$here/../digits
export HESSBLOCK=${HESSBLOCK:-$(command -v hessblock)}
work=$(mktemp -d)
node=$(hostname -s)

cat > "$work/slurm.conf" <<CONF
ClusterName=here
SlurmctldHost=$node
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$work/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ReturnToService=2
NodeName=$node CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
mkdir "$work/state" "$work/spool"
export SLURM_CONF=$work/slurm.conf
head -c 1024 /dev/urandom > "$work/munge.key"
chmod 600 "$work/munge.key"
chmod 755 "$work"

stop() {
    for name in slurmctld slurmd munged; do
        if [ -f "$work/$name.pid" ]; then kill "$(cat "$work/$name.pid")" 2> /dev/null || true; fi
    done
    sleep 1
    rm -rf "$work"
}
trap stop EXIT

munged --force --key-file="$work/munge.key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
    --log-file="$work/munged.log" --seed-file="$work/munged.seed"
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
for _ in $(seq 60); do
    if sinfo -h -o %t 2> /dev/null | grep -q idle; then break; fi
    sleep 1
done
sinfo

cd "$work"
options=("$digits/model.onnx" --inputs "$digits/images.npy" --targets "$digits/labels.npy" --loss cross-entropy
    --device cpu --part full --part layers --part diag --tile 32)
job=$(sbatch --parsable "$here/slurm.sh" "${options[@]}" --out h)
merge=$(sbatch --parsable --dependency="afterok:$job" --output=merge.log --wrap "$HESSBLOCK merge h")
# A node that fails: the task is stopped at once and started again.
tiles() { cat h.partial/done-2-of-8 2> /dev/null | grep -vc '^{' || true; }
for _ in $(seq 2000); do
    if [ "$(tiles)" -gt 3 ]; then
        scontrol requeue "${job}_2"
        echo "task 2 requeued after $(tiles) tiles; Slurm waits two minutes before it starts it again"
        break
    fi
    sleep 0.01
done
for _ in $(seq 300); do
    if ! squeue -h -j "$job,$merge" 2> /dev/null | grep -q .; then break; fi
    sleep 1
done
cat merge.log
grep -h "went on" hessblock-*_2.log || echo "task 2 had ended before it was requeued"
"$HESSBLOCK" blocks "${options[@]}" --out one
for file in one/*.npy; do cmp "$file" "h/$(basename "$file")"; done
echo "the same bytes as by one process"
