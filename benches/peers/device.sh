#!/usr/bin/env bash
# Checks and measures a GPU on a machine without a compiler, by what carry.sh left in .device/; from the repository's root:
#
#     OUT=results benches/peers/device.sh [ADAPTER]
#
# ADAPTER is a part of the GPU's name (NVIDIA). The bench goes first, then PyTorch on the same GPU, the self-test and the tests,
# each for as long as is left of LIMIT seconds (570). SCALE takes a share of the bench's matrices (1; 0.003 for a software
# device), PYTHON is the one with PyTorch. Eight files in OUT: see the end of the run for what each holds.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-device-results} adapter=${1:-NVIDIA} scale=${SCALE:-1} python=${PYTHON:-python3}
deadline=$((SECONDS + ${LIMIT:-570}))
mkdir -p "$out"
bin=$(mktemp -d)
trap 'rm -r "$bin"' EXIT
tar -C "$bin" -xzf .device/binaries.tar.gz || exit 1

if ! ldconfig -p | grep -q libvulkan.so.1; then
    for package in .gl/*.deb .device/*.deb; do
        [ -f "$package" ] && dpkg -x "$package" /
    done
    ldconfig
fi
# Containers mount NVIDIA's driver where no loader looks.
mounted=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -z "${VK_DRIVER_FILES:-}" ] && [ -f $mounted ] && ! compgen -G '/*/vulkan/icd.d/nvidia*' '/usr/share/vulkan/icd.d/nvidia*' >/dev/null; then
    export VK_DRIVER_FILES=$mounted
    export __EGL_VENDOR_LIBRARY_FILENAMES=/usr/local/nvidia/share/glvnd/egl_vendor.d/10_nvidia.json
fi

failed=()
# step NAME SECONDS LOG COMMAND…: runs it for that long at most, and no longer than is left.
step() {
    local name=$1 most=$2 log=$3 left=$((deadline - SECONDS)) start=$SECONDS code=0
    shift 3
    [ "$left" -lt "$most" ] && most=$left
    if [ "$most" -lt 5 ]; then
        echo "== $name: no time left" | tee -a "$out/summary.log"
        failed+=("$name")
        return
    fi
    echo "== $name: $*" >>"$out/$log"
    timeout -k 5 "$most" "$@" >>"$out/$log" 2>&1 || code=$?
    echo "== $name: exit $code after $((SECONDS - start)) s (of $most)" | tee -a "$out/summary.log"
    [ $code -eq 0 ] || failed+=("$name")
}

rm -f "$out"/{info,bench,peers,tests,summary}.log "$out"/{bench,peers,selftest}.json
export HESSBLOCK_BENCH_DEVICE=$adapter HESSBLOCK_GPU=$adapter
step info 60 info.log "$bin/hessblock" info
step bench 240 bench.log "$bin/device" --scale "$scale" --json "$out/bench.json"
ours=()
[ -f "$out/bench.json" ] && ours=(--hessblock "$out/bench.json")
step peers 200 peers.log "$python" -u benches/peers/device.py --scale "$scale" --json "$out/peers.json" ${ours[@]+"${ours[@]}"}
step selftest 120 tests.log bash -c '"$0" selftest --device "$1" --json >"$2"' "$bin/hessblock" "$adapter" "$out/selftest.json"
for name in primitives contraction gpu places; do
    step "test $name" 120 tests.log "$bin/test-$name"
done
# What was found out about the device stands in the first lines of bench.log.
step "info, after" 30 info.log "$bin/hessblock" info

cat "$out/bench.log" "$out/peers.log" 2>/dev/null
grep -E '^test result|panicked|FAILED' "$out/tests.log" 2>/dev/null
cat "$out/summary.log"
echo "in $out: info.log, bench.log and .json (hessblock), peers.log and .json (PyTorch, both side by side), tests.log, selftest.json, summary.log"
[ ${#failed[@]} -eq 0 ] || { echo "not done or failed: ${failed[*]}" >&2; exit 1; }
