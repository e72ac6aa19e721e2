"""Exports any torch.nn.Module to an ONNX file that keeps every parameter's name.

    python examples/export.py module.py:make_model --input-shape 1,28,28 --out model.onnx
    python examples/export.py text.py:make_model --input 'tokens=16:int64<27' --input mask=16:bool --out model.onnx

`module.py:make_model` is a file and a function (or class) in it that takes no arguments and gives the module;
a shape is that of one sample, without the sample axis, which is the first of every input and output. All other
extents are fixed as given, the length of a sequence too. Or from Python:

    from export import export
    export(model, (1, 28, 28), "model.onnx")
    export(model, {"tokens": "16:int64<27", "mask": "16:bool"}, "model.onnx", output_names=["logits"])

Inputs are arguments of the module's `forward` where all have names of such, else they are given in order.

Beside the file goes `model.parameters.json`: which of the file's parameters is which of
`module.named_parameters()`, with its shape, its place in the flat order of hessblock (`offset`) and in that of PyTorch
(`module_offset`, as in torch.nn.utils.parameters_to_vector), and the other names of a tied one (`tied`). The permutation
from one to the other, so that H_file = H_module[order][:, order]:

    order = permutation("model.parameters.json")          # H_module[order][:, order] is what hessblock writes

`unused` are the module's parameters that no output depends on, `lost` those that the file
has no more. Where there are several outputs, `outputs` has a list for each, of what that output depends on.

Names are kept by leaving the file as it was traced. An exporter that folds or optimises (both do unless told
otherwise) multiplies batch norms into convolutions, transposes weights and renames them (`val_75`), and writes
equal ones once; the Hessian of such a file is that with respect to the numbers it holds, which are not the
module's parameters. The file's metadata say what the module's parameters and buffers are: the newer exporter
writes that, and this script for the older one. Needs torch, onnx and onnxscript.
"""

import argparse
import importlib.util
import inspect
import json
import logging
import pathlib
import re
import sys
import warnings

import torch
from torch.utils import _pytree as pytree

SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"


def export(module, input_shape, out, opset=None, dtype=torch.float32, script=False, output_names=None):
    """Writes `out` and its parameter map; returns the map.

    `input_shape` is one sample's, or a dictionary of inputs: name to shape, or to `SHAPE:TYPE` as on the command
    line, or to an example of two samples. `opset` is the version of the operations, the exporter's choice if
    None. `script=True` takes the older (TorchScript) exporter. The module's mode is restored afterwards.
    """
    import onnx

    out = pathlib.Path(out)
    given = input_shape if isinstance(input_shape, dict) else {"input": input_shape}
    given = {name: example(what, dtype) for name, what in given.items()}
    training, fast = module.training, torch.backends.mha.get_fastpath_enabled()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)  # The older exporter does not know its operations.
    # A pool over a permuted tensor is otherwise written as a look-up in all samples at once (as_strided).
    pools = [m for m in module.modules() if isinstance(m, torch.nn.AdaptiveAvgPool2d)]
    hooks = [m.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),)) for m in pools]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names, arguments = in_order(module, given)
            outputs, unused = trial(module, arguments)
            output_names = name_outputs(outputs, output_names)
            common = dict(opset_version=opset, input_names=names, output_names=output_names)
            with torch.no_grad():
                if script:
                    torch.onnx.export(
                        module, arguments, str(out), dynamo=False, do_constant_folding=False,
                        training=torch.onnx.TrainingMode.EVAL,
                        dynamic_axes={name: {0: "batch"} for name in names + output_names}, **common,
                    )
                else:
                    batch = {0: torch.export.Dim("batch")}
                    bound = inspect.signature(module.forward).bind(*arguments).arguments
                    torch.onnx.export(
                        module, arguments, str(out), dynamo=True, optimize=False, external_data=False, verbose=False,
                        dynamic_shapes=pytree.tree_map(
                            lambda a: batch if isinstance(a, torch.Tensor) else None, dict(bound)),
                        **common,
                    )
    finally:
        module.train(training)
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
    model = onnx.load(str(out))
    mapping = parameter_map(model, module, unused)
    sign(model, module, mapping)
    for part in [*model.graph.node, *model.graph.value_info]:
        del part.metadata_props[:]  # Which lines of which file on this machine it came from.
    onnx.save(model, str(out))
    out.with_suffix(".parameters.json").write_text(json.dumps(mapping, indent=1) + "\n")
    return mapping


def example(what, dtype):
    """Two samples of an input given by its shape, by `SHAPE:TYPE`, or by an example."""
    if isinstance(what, torch.Tensor):
        return what
    kind, limit = None, None
    if isinstance(what, str):
        form = re.fullmatch(r"([\d, ]*)(?::(float32|float64|int32|int64|bool)(?:<(\d+))?)?", what)
        if not form:
            raise SystemExit(f"{what!r} is not of the form SHAPE[:TYPE], such as 1,28,28 or 16:int64<27 or 16:bool")
        shape, kind, limit = form.groups()
        what = [int(extent) for extent in shape.split(",") if extent.strip()]
    shape = (2, *what)
    if kind == "bool":
        return torch.ones(shape, dtype=torch.bool)
    if kind in ("int32", "int64"):
        return torch.randint(int(limit or 2), shape).to(getattr(torch, kind))
    return torch.randn(shape).to(torch.float64 if kind == "float64" else dtype)


def in_order(module, given):
    """The names and arguments in the order of `forward`; arguments between them keep their defaults."""
    parameters = inspect.signature(module.forward).parameters
    if not set(given) <= set(parameters):
        return list(given), tuple(given.values())
    last = max(list(parameters).index(name) for name in given)
    taken = list(parameters)[: last + 1]
    arguments = tuple(given.get(name, parameters[name].default) for name in taken)
    return [name for name in taken if name in given], arguments


def trial(module, arguments):
    """What the module gives, and the names of the parameters that no output depends on."""
    leaves = {name: value.detach().requires_grad_() for name, value in module.named_parameters()}
    with torch.enable_grad():
        outputs = torch.func.functional_call(module, leaves, arguments)
    real = [t.sum() for t in pytree.tree_leaves(outputs) if isinstance(t, torch.Tensor) and t.requires_grad]
    if not real:
        return outputs, list(leaves)
    slopes = torch.autograd.grad(sum(real), list(leaves.values()), allow_unused=True)
    return outputs, [name for name, slope in zip(leaves, slopes) if slope is None]


def name_outputs(outputs, wanted):
    """As wanted; else the keys of a dictionary, `output`, or `output0`, `output1`, …"""
    count = sum(isinstance(t, torch.Tensor) for t in pytree.tree_leaves(outputs))
    if wanted:
        if len(wanted) != count:
            raise SystemExit(f"{len(wanted)} names for {count} outputs")
        return list(wanted)
    if isinstance(outputs, dict) and len(outputs) == count:
        return list(outputs)
    return ["output"] if count == 1 else [f"output{k}" for k in range(count)]


def parameter_map(model, module, unused=()):
    """Which of the file's initializers is which parameter of the module."""
    # remove_duplicate=False: a tied parameter has several names, and the file one of them.
    named = dict(module.named_parameters(remove_duplicate=False))
    names = {i.name: list(i.dims) for i in model.graph.initializer}
    for node in model.graph.node:
        # The older exporter gives equal-valued parameters as Identity of one of them.
        if node.op_type == "Identity" and node.output[0] in named and node.input[0] in names:
            names[node.output[0]] = names[node.input[0]]
    module_offsets, at = {}, 0
    for value in module.parameters():
        module_offsets[id(value)] = at
        at += value.numel()
    held = {id(named[name]) for name in names if name in named}
    absent = [name for name, value in module.named_parameters() if id(value) not in held]
    lost = [name for name in absent if name not in unused]
    if lost:
        print(f"warning: the file has no parameter of these names: {', '.join(lost)}", file=sys.stderr)
    lists = {}
    for output in model.graph.output:
        fed = feeding(model.graph, output.name)
        rows, offset = [], 0
        for name in names:
            if name not in named or name not in fed:
                continue
            value = named[name]
            tied = [other for other in named if named[other] is value and other != name]
            row = {"file": name, "module": name, "shape": names[name], "offset": offset, "count": value.numel(),
                   "module_offset": module_offsets[id(value)]}
            rows.append(row | ({"tied": tied} if tied else {}))
            offset += value.numel()
        lists[output.name] = {"parameters": rows, "count": offset}
    rest = {"unused": list(unused), "lost": lost}
    return (lists.popitem()[1] if len(lists) == 1 else {"outputs": lists}) | rest


def permutation(mapping, output=None):
    """The index in PyTorch's flat vector of parameters of every entry of hessblock's: H_module[order][:, order].

    `mapping` is what `export` returns, or the path of the JSON file that it writes; `output` names one of several outputs.
    """
    if not isinstance(mapping, dict):
        mapping = json.loads(pathlib.Path(mapping).read_text())
    if output is not None:
        mapping = mapping["outputs"][output]
    rows = mapping["parameters"]
    ranges = [torch.arange(row["module_offset"], row["module_offset"] + row["count"]) for row in rows]
    return torch.cat(ranges) if ranges else torch.arange(0)


def feeding(graph, output):
    """The names of all values that the output is computed from."""
    needed = {output}
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
    return needed


def sign(model, module, mapping):
    """Writes into the metadata which of the file's names are the module's parameters and which its buffers.

    A tied parameter goes by the name that the file has, and those that no output depends on are left out: what
    else the file does not hold was folded into others, as `hessblock inspect` then says.
    """
    held = {i.name for i in model.graph.initializer} | {o for n in model.graph.node for o in n.output}
    named = dict(module.named_parameters(remove_duplicate=False))
    lines = ["# inputs"]
    for name, value in module.named_parameters():
        if name in mapping["unused"]:
            continue
        others = [other for other in named if named[other] is value and other in held] or [name]
        lines += [f"p_{other.replace('.', '_')}: PARAMETER target='{other}'" for other in others]
    for name, _ in module.named_buffers(remove_duplicate=False):
        lines.append(f"b_{name.replace('.', '_')}: BUFFER target='{name}'")
    entries = {e.key: e for e in model.graph.metadata_props}
    entry = entries.get(SIGNATURE) or model.graph.metadata_props.add(key=SIGNATURE)
    kept = [line for line in entry.value.splitlines() if ": PARAMETER target=" not in line and ": BUFFER " not in line]
    entry.value = "\n".join(lines + [line for line in kept if line not in lines])


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
    parser.add_argument("--input-shape", help="shape of one sample of a single input, such as 1,28,28")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=SHAPE[:TYPE]",
                        help="an input, repeated: float32 by default, 'int64<VOCABULARY' for tokens, bool")
    parser.add_argument("--output-names", help="names of the outputs, separated by commas")
    parser.add_argument("--out", required=True, help="the ONNX file to write")
    parser.add_argument("--weights", help="a .pt or .safetensors file with the module's state_dict")
    parser.add_argument("--opset", type=int, help="version of the ONNX operations")
    parser.add_argument("--script", action="store_true", help="use the older TorchScript exporter")
    parser.add_argument("--double", action="store_true", help="store the weights in double precision")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if bool(arguments.input) == bool(arguments.input_shape):
        parser.error("give --input-shape for one input of real numbers, or --input for each")
    inputs = {"input": arguments.input_shape}
    if arguments.input:
        inputs = dict(text.partition("=")[::2] for text in arguments.input)
        if not all("=" in text for text in arguments.input):
            parser.error("an input is NAME=SHAPE[:TYPE]")
    module = load(arguments.target)
    if arguments.weights:
        if arguments.weights.endswith(".safetensors"):
            from safetensors.torch import load_file
            state = load_file(arguments.weights)
        else:
            state = torch.load(arguments.weights, map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    dtype = torch.float64 if arguments.double else torch.float32
    names = arguments.output_names.split(",") if arguments.output_names else None
    mapping = export(module.to(dtype), inputs, arguments.out, arguments.opset, dtype, arguments.script, names)
    for output, part in mapping.get("outputs", {"": mapping}).items():
        of = f" of output {output}" if output else ""
        print(f"{arguments.out}: {len(part['parameters'])} parameters{of}, {part['count']} entries")


if __name__ == "__main__":
    main()
