#!/usr/bin/env bash
# Builds here what a machine with a GPU and no compiler runs there (device.sh), into .device/: under 64 MiB in all.
#
#     benches/peers/carry.sh
#
# The command and the bench are release builds, the tests those of `cargo test`. With them go Debian's Vulkan loaders, where
# apt-get finds them: a driver alone is not found without.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests=(gpu primitives contraction places)
folder=.device
mkdir -p $folder
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# Cargo's last lines say where an executable is: `Executable tests/gpu.rs (target/debug/deps/gpu-0123)`.
executable() {
    sed -n "s|^ *Executable .*$1.* (\(.*\))\$|\1|p" "$work/log"
}

cargo build --release --bin hessblock
strip -o "$work/hessblock" "${CARGO_TARGET_DIR:-target}/release/hessblock"
cargo bench --no-run --bench device 2>&1 | tee "$work/log"
strip -o "$work/device" "$(executable benches/device.rs)"
cargo test --no-run $(printf -- '--test %s ' "${tests[@]}") 2>&1 | tee "$work/log"
for name in "${tests[@]}"; do
    strip -o "$work/test-$name" "$(executable "tests/$name.rs")"
done
tar -C "$work" --exclude=./log -czf $folder/binaries.tar.gz .

if ! compgen -G "$folder/*.deb" >/dev/null; then
    (cd $folder && apt-get download libvulkan1 libegl1 libglvnd0 libopengl0 libgl1 libglx0 libgles2) ||
        echo "no Vulkan loader goes along: the machine must have one"
fi
du -sh $folder
bytes=$(du -sb $folder | cut -f1)
[ "$bytes" -le $((64 << 20)) ] || { echo "$folder is larger than 64 MiB" >&2; exit 1; }
