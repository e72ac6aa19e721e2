#!/bin/sh
# The first corpus of every target: the test networks, and small whole files of every other kind.
cd "$(dirname "$0")" || exit 1
for target in onnx onnx_structure; do
    mkdir -p "corpus/$target"
    cp ../tests/golden/models/*.onnx "corpus/$target/"
done
cd .. && cargo test --test damage -- --ignored --exact the_first_corpus_is_written
