"""Lists what the golden models are made of: operations with their attributes, and the models that have them.

    python optypes.py [PATTERN]
"""

import collections
import fnmatch
import pathlib
import sys

import onnx

HERE = pathlib.Path(__file__).parent
MODES = {"mode", "coordinate_transformation_mode", "nearest_mode", "equation", "is_causal", "approximate",
         "ceil_mode", "count_include_pad", "auto_pad", "axis", "exclusive", "reverse", "upper", "to",
         "largest", "direction", "p", "stash_type", "antialias", "allowzero", "reduction", "qk_matmul_output_mode",
         "q_num_heads", "kv_num_heads", "num_groups", "training_mode", "group", "blocksize", "keepdims",
         "noop_with_empty_axes", "fmod", "bias", "beta", "size", "output_padding", "batch_dims", "saturate"}


def main():
    pattern = sys.argv[1] if len(sys.argv) > 1 else "*"
    count = collections.Counter()
    seen = collections.defaultdict(lambda: collections.defaultdict(set))
    models = collections.defaultdict(set)
    for path in sorted(HERE.glob("models/*.onnx")):
        if path.name.startswith("refused_") or not fnmatch.fnmatch(path.name, pattern):
            continue
        model = onnx.load(path, load_external_data=False)
        opset = next(o.version for o in model.opset_import if not o.domain)
        for node in model.graph.node:
            kind = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            count[kind] += 1
            models[kind].add(path.name.split(".")[0])
            seen[kind]["inputs"].add("".join("x" if n else "-" for n in node.input))
            seen[kind]["opset"].add(opset)
            for a in node.attribute:
                if a.name in MODES:
                    value = onnx.helper.get_attribute_value(a)
                    value = value.decode() if isinstance(value, bytes) else str(value)
                    seen[kind][a.name].add(value)
                else:
                    seen[kind]["also"].add(a.name)
    for kind, number in sorted(count.items()):
        named = sorted(models[kind])
        print(f"{kind}: {number} in {len(named)} networks ({', '.join(named[:6])}{' …' * (len(named) > 6)})")
        for name, values in seen[kind].items():
            print(f"    {name}: {', '.join(sorted(map(str, values)))}")


if __name__ == "__main__":
    main()
