#!/bin/sh
# The test networks as the first corpus of every target.
cd "$(dirname "$0")" || exit 1
for target in onnx onnx_structure; do
    mkdir -p "corpus/$target"
    cp ../tests/golden/models/*.onnx "corpus/$target/"
done
