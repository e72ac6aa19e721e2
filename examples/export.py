"""Exports any torch.nn.Module to an ONNX file that keeps every parameter's name.

    python examples/export.py module.py:make_model --input-shape 1,28,28 --out model.onnx

`module.py:make_model` is a file and a function (or class) in it that takes no arguments and gives the module;
the input shape is that of one sample, without the sample axis. Or from Python:

    from export import export
    export(model, (1, 28, 28), "model.onnx")

Beside the file goes `model.parameters.json`: which of the file's parameters is which of
`module.named_parameters()`, with its shape and place in the flat order of hessblock.

Names are kept by leaving the file as it was traced: what an exporter optimises it renames (`val_75`), merges
(batch norms into convolutions) or writes once (equal biases). Needs torch, onnx and onnxscript.
"""

import argparse
import importlib.util
import json
import logging
import pathlib
import sys
import warnings

import torch


def export(module, input_shape, out, opset=None, dtype=torch.float32, script=False):
    """Writes `out` and its parameter map; returns the map.

    `input_shape` is one sample's. `opset` is the version of the operations, the exporter's choice if None.
    `script=True` takes the older (TorchScript) exporter. The module's mode is restored afterwards.
    """
    import onnx

    out = pathlib.Path(out)
    example = torch.randn(2, *input_shape).to(dtype)
    training = module.training
    module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if script:
                torch.onnx.export(
                    module, (example,), str(out), dynamo=False, opset_version=opset,
                    do_constant_folding=False, training=torch.onnx.TrainingMode.EVAL,
                    input_names=["input"], output_names=["output"],
                    dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
                )
            else:
                torch.onnx.export(
                    module, (example,), str(out), dynamo=True, optimize=False, opset_version=opset,
                    input_names=["input"], output_names=["output"], external_data=False, verbose=False,
                    dynamic_shapes=({0: torch.export.Dim("batch")},),
                )
    finally:
        module.train(training)
    mapping = parameter_map(onnx.load(str(out)), module)
    out.with_suffix(".parameters.json").write_text(json.dumps(mapping, indent=1) + "\n")
    return mapping


def parameter_map(model, module):
    """Which of the file's initializers is which parameter of the module."""
    # remove_duplicate=False: a tied parameter has several names, and the file one of them.
    named = dict(module.named_parameters(remove_duplicate=False))
    names = [(i.name, list(i.dims)) for i in model.graph.initializer]
    shapes = dict(names)
    for node in model.graph.node:
        # The older exporter gives equal-valued parameters as Identity of one of them.
        if node.op_type == "Identity" and node.output[0] in named and node.input[0] in shapes:
            names.append((node.output[0], shapes[node.input[0]]))
            shapes[node.output[0]] = shapes[node.input[0]]
    rows, offset, kept = [], 0, set()
    for name, shape in names:
        if name not in named:
            continue
        count = named[name].numel()
        rows.append({"file": name, "module": name, "shape": shape, "offset": offset, "count": count})
        offset += count
        kept.add(id(named[name]))
    lost = [name for name, value in named.items() if id(value) not in kept]
    if lost:
        print(f"warning: the file has no parameter of these names: {', '.join(lost)}", file=sys.stderr)
    return {"parameters": rows, "count": offset, "lost": lost}


def load(target):
    """The module that `file.py:function` makes."""
    path, _, name = target.rpartition(":")
    if not path:
        raise SystemExit(f"{target!r} is not of the form file.py:function")
    path = pathlib.Path(path)
    if not path.is_file():
        raise SystemExit(f"there is no file {path}")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    if not hasattr(loaded, name):
        raise SystemExit(f"{path} has no {name!r}")
    made = getattr(loaded, name)
    return made if isinstance(made, torch.nn.Module) else made()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", help="file.py:function that gives the module")
    parser.add_argument("--input-shape", required=True, help="shape of one sample, such as 1,28,28")
    parser.add_argument("--out", required=True, help="the ONNX file to write")
    parser.add_argument("--weights", help="a .pt or .safetensors file with the module's state_dict")
    parser.add_argument("--opset", type=int, help="version of the ONNX operations")
    parser.add_argument("--script", action="store_true", help="use the older TorchScript exporter")
    parser.add_argument("--double", action="store_true", help="store the weights in double precision")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    module = load(arguments.target)
    if arguments.weights:
        if arguments.weights.endswith(".safetensors"):
            from safetensors.torch import load_file
            state = load_file(arguments.weights)
        else:
            state = torch.load(arguments.weights, map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    dtype = torch.float64 if arguments.double else torch.float32
    shape = [int(extent) for extent in arguments.input_shape.split(",") if extent.strip()]
    mapping = export(module.to(dtype), shape, arguments.out, arguments.opset, dtype, arguments.script)
    print(f"{arguments.out}: {len(mapping['parameters'])} parameters, {mapping['count']} entries")


if __name__ == "__main__":
    main()
