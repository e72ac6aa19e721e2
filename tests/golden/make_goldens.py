"""Writes the golden files: small ONNX networks as PyTorch's exporters write them, and reference values.

    python make_goldens.py            # needs torch, onnx, onnxscript, onnxruntime
    python make_goldens.py --keep     # makes only what is not there yet
    python make_goldens.py --keep act_gelu "rank_*"    # of these networks; the index keeps the others
    python make_goldens.py --keep --models             # the ONNX files alone, and no index

Reference values come from PyTorch in double precision: J by torch.func.jacrev, the Hessian of the loss in
the outputs by torch.func.hessian, G = Jᵀ ∇²ℓ J, H by torch.autograd.functional.hessian in the weights. The weights are
rounded to the precision of the file first. The flat order is that of the file: its initializers in order.
Per case index.json says: model, data, loss {name, reduction, options}, tolerance class, the parameters
(name, layer, shape) in flat order, and the keys of the data file: inputs, targets, outputs, loss, gradient,
rows (indices), G_rows and H_rows [rows, p], G_diagonal, H_diagonal. Where there are several inputs, `inputs`
names them and the data has inputs.NAME of each; `output` names the output that the loss takes where there
are several; the loss has `class_axis` where it is not 1. Cases whose flat orders agree share a data file.

Tolerance "exact": the file in double precision computes what the module does. "single": some constant of it
(1/√2 in a GELU, a scale of attention) is rounded to single precision in the file, so outputs differ by that.

`refused` lists models that must not be loaded, with what the message must say.
"""

import copy
import fnmatch
import json
import logging
import pathlib
import re
import sys
import warnings
import zlib

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import blocks
import double
import folded
import masked
import operations
import recurrent
import refusals
from networks import FusedNorm, networks
from spec import Network

HERE = pathlib.Path(__file__).parent
KEYS = ["inputs", "targets", "outputs", "loss", "gradient", "rows", "G_rows", "H_rows", "G_diagonal",
        "H_diagonal"]
MODELS, DATA = HERE / "models", HERE / "data"
NEWEST = 25
KEEP = "--keep" in sys.argv
ONLY_MODELS = "--models" in sys.argv
NAMES = [a for a in sys.argv[1:] if not a.startswith("--")]
FULL = 90  # up to this many parameters the whole matrices are kept


def made_up(name):
    return bool(re.fullmatch(r"(val_|_val_)?\d+", name)) or name.startswith(("onnx::", "/"))


dropped = []  # what the summary names at the end


def drop(name, why):
    dropped.append(f"{name}: {' '.join(why.split())[:160]}")
    print(dropped[-1], flush=True)


def wanted(network):
    return not NAMES or any(fnmatch.fnmatch(network, n) for n in NAMES)


def export(module, example, path, exporter, fold=True, opset=None, symbolic=True, external=False,
           names=("x",), outputs=()):
    if KEEP and path.exists():
        return onnx.load(path)
    module = copy.deepcopy(module).eval()
    example = example if isinstance(example, tuple) else (example,)
    several = {"input_names": list(names)} if len(names) > 1 else {}
    if outputs:
        several["output_names"] = list(outputs)
    if exporter == "dynamo":
        batch = torch.export.Dim("batch")
        torch.onnx.export(
            module, example, path, dynamo=True, optimize=fold, opset_version=opset, verbose=False,
            dynamic_shapes=tuple({0: batch} for _ in example) if symbolic else None,
            external_data=external, **several,
        )
        if not external:
            slim(path)
    else:
        torch.onnx.export(
            module, example, path, dynamo=False, do_constant_folding=fold, opset_version=opset,
            dynamic_axes={n: {0: "batch"} for n in names} if symbolic else None,
            **{"input_names": list(names), **several},
        )
        if external:
            model = onnx.load(path)
            onnx.save(model, path, save_as_external_data=True, location=path.name + ".data",
                      size_threshold=0)
    return onnx.load(path)


def slim(path):
    """Leaves out the exporter's notes on every node (where in Python it came from): most of a small file.
    Those on the graph stay: they say what is a parameter and what a buffer."""
    model = onnx.load(path)
    for part in [model, *model.graph.node, *model.graph.value_info, *model.graph.initializer,
                 *model.graph.input, *model.graph.output]:
        del part.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, path)


def loss_function(name, reduction, options, class_axis=None):
    """(outputs, targets) → loss, as PyTorch defines it; the axis of the classes moved to where it has it."""
    if class_axis is not None:
        plain = loss_function(name, reduction, options)
        return lambda z, y: plain(z.movedim(class_axis, 1), y)
    tensor = lambda key: torch.tensor(options[key], dtype=torch.float64) if key in options else None
    if name == "mse":
        return lambda z, y: F.mse_loss(z, y, reduction=reduction)
    if name == "bce":
        return lambda z, y: F.binary_cross_entropy_with_logits(
            z, y, reduction=reduction, pos_weight=tensor("pos_weight"))
    return lambda z, y: F.cross_entropy(
        z, y, reduction=reduction, weight=tensor("class_weights"),
        ignore_index=options.get("ignore_index", -100),
        label_smoothing=options.get("label_smoothing", 0.0))


def targets_for(name, options, outputs, generator):
    if name == "mse":
        return torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    if name == "bce":
        return torch.rand(outputs.shape, generator=generator, dtype=torch.float64).round(decimals=2)
    if options.get("probabilities"):
        return torch.rand(outputs.shape, generator=generator, dtype=torch.float64).softmax(1)
    shape = [outputs.shape[0], *outputs.shape[2:]]
    y = torch.randint(0, outputs.shape[1], shape, generator=generator)
    if options.get("ignore_index", 0) < 0:
        y.view(-1)[1] = options["ignore_index"]
    return y


def file_parameters(model, module, output=None):
    """The file's initializers that are parameters: (name, layer, module's name, transposed)."""
    named = {k: v.detach().numpy() for k, v in module.named_parameters()}
    first = {id(v): k for k, v in module.named_parameters()}  # a tied parameter has the file's name of it
    tied = {k: first[id(v)] for k, v in module.named_parameters(remove_duplicate=False)}
    buffers = {k for k, _ in module.named_buffers()}
    names = {i.name for i in model.graph.initializer}
    arrays = [(i.name, onnx.numpy_helper.to_array(i)) for i in model.graph.initializer]
    # The older exporter gives equal-valued weights as Identity of one of them.
    values = dict(arrays)
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in values and "." in node.output[0]:
            arrays.append((node.output[0], values[node.input[0]]))
    feeds = feeding(model, output)
    told = any("graph_signature" in p.key for p in model.graph.metadata_props)
    found = []
    for name, array in arrays:
        if name in buffers or array.dtype.kind != "f" or name not in feeds:
            continue
        if name in tied:
            found.append((name, name.rpartition(".")[0] or name, tied[name], False))
            continue
        same = [(k, t) for k, v in named.items() for t in (False, True)
                if v.ndim <= 2 and (v.T if t else v).shape == array.shape
                and np.array_equal(v.T if t else v, array) and array.size > 1]
        # The slopes of a PRelu are given axes that broadcast.
        same += [(k, False) for k, v in named.items()
                 if v.shape == array.squeeze().shape != array.shape and array.size > 1
                 and np.array_equal(v, array.squeeze())]
        if not same:
            continue
        source, transposed = same[0]
        layer = source.rpartition(".")[0]
        users = [n.op_type for n in model.graph.node if name in n.input]
        if made_up(name) and all(u in ("Add", "Mul") for u in users):  # no telling it from a constant
            continue
        if not made_up(name) and told:  # folding made it, and the file says that it is no parameter
            continue
        if not made_up(name):  # named for the operation that was folded, such as the rows of an embedding
            layer = name.rpartition(".")[0] or name
        elif not layer or not {f"{layer}.bias", f"{layer}.in_proj_bias"} & names:
            layer = next(n.name for n in model.graph.node if name in n.input)
        found.append((name, layer, source, transposed))
    wanted = [k for k in named if output is None or k in feeds]
    assert sorted(f[2] for f in found) == sorted(wanted), (found, list(named))
    return found


def feeding(model, output=None):
    """The names that an output feeds on, the first where none is named."""
    needed = {output or model.graph.output[0].name}
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed |= read_by(node)
    return needed


def read_by(node):
    """The names that a node reads, those inside its graphs too."""
    graphs = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return set(node.input).union(*(read_by(inner) for g in graphs for inner in g.node))


def reference(network, parameters, inputs, loss, targets):
    """Outputs, loss, gradient, G and H in the file's flat order; of a large network no H."""
    module = network.module
    shapes = {k: v.shape for k, v in module.named_parameters()}
    values = dict(module.named_parameters())
    flat = torch.cat([
        (values[s].detach().T if t else values[s].detach()).reshape(-1) for _, _, s, t in parameters])

    def unflatten(w):
        result, at = {}, 0
        for _, _, source, transposed in parameters:
            shape = shapes[source]
            part = w[at:at + shape.numel()]
            result[source] = part.reshape(shape[::-1]).T if transposed else part.reshape(shape)
            at += shape.numel()
        return result

    compute = lambda w: network.chosen(torch.func.functional_call(module, unflatten(w), inputs))
    outputs = compute(flat)
    jacobian = torch.func.jacrev(compute)(flat).reshape(outputs.numel(), -1)
    curvature = torch.func.hessian(lambda z: loss(z.reshape(outputs.shape), targets))(outputs.reshape(-1))
    total = lambda w: loss(compute(w), targets)
    # Reverse over reverse: forward over reverse (torch.func.hessian) of layer_norm gives a matrix that is not symmetric.
    exact = None if network.large else torch.autograd.functional.hessian(total, flat)
    return outputs, total(flat), torch.func.grad(total)(flat), jacobian.T @ curvature @ jacobian, exact


def write_data(data, network, parameters, inputs, full):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        outputs = network.chosen(network.module(*inputs))
    axis = network.class_axis
    targets = targets_for(network.loss, network.options,
                          outputs if axis is None else outputs.movedim(axis, 1), generator)
    loss = loss_function(network.loss, network.reduction, network.options, axis)
    if axis is not None and targets.is_floating_point():
        targets = targets.movedim(1, axis)
        plain, loss = loss, lambda z, y: plain(z, y.movedim(axis, 1))
    outputs, value, gradient, ggn, exact = reference(network, parameters, inputs, loss, targets)
    p = gradient.numel()
    count = 5 if full or p <= 120 and not network.large else 3
    rows = np.arange(p) if full and p <= FULL else np.unique(np.linspace(0, p - 1, count).astype(np.int64))
    several = len(network.inputs) > 1
    arrays = {f"inputs.{k}" if several else "inputs": v.numpy() for k, v in zip(network.inputs, inputs)}
    arrays |= {
        "targets": targets.numpy(), "outputs": outputs.detach().numpy(),
        "loss": value.detach().reshape(1).numpy(), "gradient": gradient.detach().numpy(), "rows": rows,
        "G_rows": ggn.detach().numpy()[rows], "G_diagonal": ggn.detach().diagonal().numpy(),
    }
    if exact is not None:
        arrays["H_rows"] = exact.detach().numpy()[rows]
        arrays["H_diagonal"] = exact.detach().diagonal().numpy()
    assert all(np.isfinite(a).all() for a in arrays.values()), data
    np.savez_compressed(data, **arrays)
    print(f"{data.stem}: p = {p}, rows {len(rows)}", flush=True)


def write_case(index, name, path, model, network, inputs, full, data_name=None, tolerance=None):
    network = copy.copy(network)
    network.module = copy.deepcopy(network.module).eval()
    if name == "rnn_unrolled.new_optimized":
        return drop(name, "its weights were renamed, and no bias follows that would name their layer")
    try:
        parameters = file_parameters(model, network.module, network.output)
    except AssertionError as error:  # an optimising exporter multiplied a parameter into a constant
        drop(name, f"its parameters are not those of the module: {error}")
        path.unlink(missing_ok=True)
        return
    if ONLY_MODELS:
        return
    sizes = {k: list(v.shape) for k, v in network.module.named_parameters()}
    network.module.double()
    tolerance = tolerance or network.tolerance
    if tolerance is None:
        with torch.no_grad():
            outputs = network.chosen(network.module(*inputs))
        run = check(path, inputs, outputs, network)
        tolerance = double.tolerance(model, list(network.inputs), inputs, outputs, network.output)
        if run == "agrees" and tolerance.startswith("not run"):
            tolerance = "exact"  # an operation that is wrong in onnx's own evaluation
        if tolerance not in ("exact", "single") or run == "differs":
            drop(name, f"the file is not the module: by ONNX Runtime {run}; in double precision {tolerance}")
            path.unlink(missing_ok=True)
            return
    order = [(s, t) for _, _, s, t in parameters]
    dims = {i.name: list(i.dims) for i in model.graph.initializer}
    stem = data_name(order) if data_name else name
    data = DATA / f"{stem}.npz"
    if not (KEEP and data.exists()):
        if data_name is None:
            with torch.no_grad():
                outputs = network.chosen(network.module(*inputs))
            run = check(path, inputs, outputs, network)
            if run != "agrees":
                print(f"  {name}: ONNX Runtime {run}")
        write_data(data, network, parameters, inputs, full)
    case = {
        "name": name, "model": f"models/{path.name}", "data": f"data/{stem}.npz",
        "loss": {"name": network.loss, "reduction": network.reduction, "options": network.options},
        "tolerance": tolerance, "p": sum(int(np.prod(sizes[s])) for s, _ in order),
        "parameters": [
            {"name": n, "layer": layer, "shape": dims.get(n, sizes[s])} for n, layer, s, _ in parameters],
        "keys": KEYS,
    }
    buffers = {k for k, _ in network.module.named_buffers() if "running_" not in k}
    constant = [i.name for i in model.graph.initializer
                if i.name in buffers and i.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)]
    told = any("graph_signature" in p.key for p in model.graph.metadata_props)
    if constant and not told:  # the older exporter does not say what is a buffer
        case["constant"] = constant
    if network.class_axis is not None:
        case["loss"]["class_axis"] = network.class_axis
    if network.output:
        case["output"] = network.output
    if len(network.inputs) > 1:
        case["inputs"] = list(network.inputs)
    if network.large:
        case["keys"] = [k for k in KEYS if not k.startswith("H")]
    if len(network.inputs) > 1:
        case["keys"] = [f"inputs.{k}" for k in network.inputs] + case["keys"][1:]
    index.append(case)


def check(path, inputs, outputs, network):
    """Whether ONNX Runtime finds that the file computes the module (as far as its batch allows)."""
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # operations too new for the runtime
        return f"not run: {str(error)[:90]}"
    half = False
    feeds = {}
    for info, values in zip(session.get_inputs(), inputs):
        half |= info.type == "tensor(float16)"
        kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64,
                "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}.get(info.type, np.float32)
        whole = len(info.shape) < values.ndim
        batch = 1 if whole else info.shape[0] if isinstance(info.shape[0], int) else len(values)
        feed = np.resize(values.numpy(), (batch, *values.shape[1:])).astype(kind)
        feeds[info.name] = feed[0] if whole else feed
    try:
        got = session.run([network.output or session.get_outputs()[0].name], feeds)[0]
        # The one sample of a file that squeezes its axis off, or has none.
        got = got[None] if got.ndim < outputs.ndim else got[:len(outputs)]
    except Exception as error:  # the runtime has no SAME padding with dilation
        return f"not run: {str(error)[-90:]}"
    expected = outputs.detach().numpy()[:len(got)]
    off = np.abs(got - expected).max() / max(1, np.abs(expected).max())
    return "agrees" if off <= (3e-2 if half else 1e-5) else "differs"


VARIANTS = {  # of every network
    "new": dict(exporter="dynamo", fold=False),
    "old": dict(exporter="script", fold=False, opset=17),
}
MORE = {  # of two networks
    "new_optimized": dict(exporter="dynamo", fold=True),
    "new_fixed": dict(exporter="dynamo", fold=False, symbolic=False),
    "new_fixed_optimized": dict(exporter="dynamo", fold=True, symbolic=False),
    "new_external": dict(exporter="dynamo", fold=False, external=True),
    "new_opset18": dict(exporter="dynamo", fold=False, opset=18),
    "new_opset21": dict(exporter="dynamo", fold=False, opset=21),
    "new_newest": dict(exporter="dynamo", fold=False, opset=NEWEST),
    "old_folded": dict(exporter="script", fold=True, opset=20),
    "old_fixed": dict(exporter="script", fold=False, symbolic=False, opset=17),
    "old_opset11": dict(exporter="script", fold=True, opset=11),
    "old_opset13_fixed": dict(exporter="script", fold=True, symbolic=False, opset=13),
    "old_external": dict(exporter="script", fold=True, external=True, opset=17),
}
ONE = {  # exported with one sample, or with a sample as the whole input, without an axis for the samples
    "new_one": dict(exporter="dynamo", fold=True, symbolic=False, samples=1),
    "old_one": dict(exporter="script", fold=True, symbolic=False, opset=17, samples=1),
    "new_raw_one": dict(exporter="dynamo", fold=False, symbolic=False, samples=1),
    "old_raw_one": dict(exporter="script", fold=False, symbolic=False, opset=17, samples=1),
    "new_whole": dict(exporter="dynamo", fold=True, symbolic=False, samples=0),
    "old_whole": dict(exporter="script", fold=True, symbolic=False, opset=17, samples=0),
}
OPSETS = {f"new_opset{k}": dict(exporter="dynamo", fold=False, opset=k) for k in (18, 23, 24)}
FOLDED = ["mlp_relu", "residual", "convolutions", "one_dimensional", "pools", "norms", "positions",
          "left_weight", "joined", "sequence_first"]


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    onnxruntime.set_default_logger_severity(4)
    for folder in (MODELS, DATA):
        folder.mkdir(exist_ok=True)
        for old in [] if KEEP or NAMES else folder.iterdir():
            old.unlink()
    before = json.loads((HERE / "index.json").read_text()) if NAMES else {"cases": []}
    index = []
    for network, (module, shape, *spec) in networks().items():
        variants = dict(VARIANTS)
        if network in ("mlp_tanh", "lenet_tanh"):
            variants |= MORE
        elif network in FOLDED:
            variants |= {k: MORE[k] for k in ("new_optimized", "old_folded", "new_fixed_optimized",
                                              "old_opset11", "old_opset13_fixed")}
        if wanted(network):
            every_export(index, network, Network(module, {"x": shape}, *spec), variants, "exact")
    if not NAMES:
        precisions(index)
        fused(index)
        batch_of_one(index)
    made_of_layers(index)
    for network, make in (operations.makers() | blocks.makers() | recurrent.makers() | masked.makers()).items():
        if wanted(network):
            torch.manual_seed(zlib.crc32(network.encode()))
            made = make()
            variants = {k: (VARIANTS | MORE | ONE | OPSETS)[k] for k in made.exports + made.variants}
            every_export(index, network, made, variants)
    for name, make in folded.makers().items():
        if wanted(name.split(".")[0]):
            torch.manual_seed(zlib.crc32(name.encode()))
            write_folded(index, name, make())
    if ONLY_MODELS:
        refusals.write(MODELS, KEEP or NAMES)
    else:
        refused = refusals.write(MODELS, KEEP or NAMES)
        made = {c["name"] for c in index}
        kept = [c for c in before["cases"] if c["name"] not in made and not wanted(c["name"].split(".")[0])]
        lines = lambda cases: "[\n" + ",\n".join(map(json.dumps, cases)) + "\n]"
        (HERE / "index.json").write_text(
            f'{{"cases": {lines(kept + index)},\n"refused": {lines(refused)}}}\n')
    print("", f"{len(dropped)} dropped:", *dropped, sep="\n")


def every_export(index, name, network, variants, tolerance=None):
    network.module.eval()
    inputs = network.draw(6, torch.Generator().manual_seed(11))
    shared = {}  # of the new networks

    def data_name(order):
        return shared.setdefault(tuple(order), f"{name}.{variant}")

    for k, (variant, settings) in enumerate(variants.items()):
        path = MODELS / f"{name}.{variant}.onnx"
        settings = dict(settings)
        count = settings.pop("samples", 2 if settings.get("symbolic", True) else 4)
        example = tuple(v[:count] if count else v[0] for v in inputs)
        example = tuple(v.float() if v.is_floating_point() else v for v in example)
        try:
            model = export(network.module, example, path, names=tuple(network.inputs),
                           outputs=network.outputs, **settings)
        except Exception as error:
            drop(path.stem, f"not exported: {error}")
            path.unlink(missing_ok=True)
            continue
        try:
            with sdpa_kernel(SDPBackend.MATH):  # the others have no forward derivative
                write_case(index, path.stem, path, model, network, inputs, k == 0 and bool(tolerance),
                           None if tolerance else data_name, tolerance)
        except Exception as error:
            if tolerance:
                raise
            drop(path.stem, f"no reference: {type(error).__name__} {error}")


def write_folded(index, name, case):
    """A case of which `folded` says what the file's parameters are."""
    network, path = case.network, MODELS / f"{name}.onnx"
    network.module.eval()
    inputs = network.draw(6, torch.Generator().manual_seed(15))
    if case.nodes:
        model = case.nodes(network)
        onnx.save(model, path)
    else:
        example = tuple(v[:2].float() if v.is_floating_point() else v[:2] for v in inputs)
        model = export(network.module, example, path, **case.exporter)
    arrays = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    arrays |= {n.output[0]: onnx.numpy_helper.to_array(n.attribute[0].t)
               for n in model.graph.node if n.op_type == "Constant"}
    known = dict(network.module.named_parameters())
    for entry, (_, source, transposed) in case.parameters.items():
        value = known[source].detach().numpy()
        assert np.array_equal((value.T if transposed else value).ravel(), arrays[entry].ravel()), (name, entry)
    order = [entry for entry in arrays if entry in case.parameters]
    assert sorted(known) == sorted(source for _, source, _ in case.parameters.values()), name
    parameters = [(entry, *case.parameters[entry]) for entry in order]
    kept, globals()["file_parameters"] = file_parameters, lambda *_: parameters
    try:
        write_case(index, name, path, model, network, inputs, True, tolerance="exact")
    finally:
        globals()["file_parameters"] = kept
    if not ONLY_MODELS:
        for row in index[-1]["parameters"]:
            row["shape"] = list(arrays[row["name"]].shape)
        index[-1].update(case.options)


def precisions(index):
    """Weights stored in half and in double precision."""
    module, shape, *spec = networks()["mlp_tanh"]
    inputs = torch.randn((6, *shape), generator=torch.Generator().manual_seed(12)).half().double()
    for variant, kind in (("half", torch.float16), ("double", torch.float64)):
        name = f"mlp_tanh.{variant}"
        path = MODELS / f"{name}.onnx"
        stored = copy.deepcopy(module).to(kind)
        model = export(stored, inputs[:2].to(kind), path, "script", opset=17)
        write_case(index, name, path, model, Network(stored, {"x": shape}, *spec), (inputs,), True,
                   tolerance="exact")


def fused(index):
    """The norm multiplied into the convolution: the parameters are the products, as the file has them."""
    module, shape, *spec = networks()["fused_norm"]
    inputs = torch.randn((6, *shape), generator=torch.Generator().manual_seed(13)).double()
    for variant, settings in (("new", dict(exporter="dynamo")), ("old", dict(exporter="script", opset=17))):
        name = f"fused_norm.{variant}_fused"
        path = MODELS / f"{name}.onnx"
        model = export(module.eval(), inputs[:2].float(), path, **settings)
        plain = FusedNorm()
        plain.norm = torch.nn.Identity()
        plain.load_state_dict({k: v for k, v in module.state_dict().items() if "norm" not in k})
        node = next(n for n in model.graph.node if n.op_type == "Conv")
        arrays = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
        plain.conv.weight.data = torch.tensor(arrays[node.input[1]])
        plain.conv.bias.data = torch.tensor(arrays[node.input[2]])
        parameters = []
        for initializer in model.graph.initializer:
            source = {node.input[1]: "conv.weight", node.input[2]: "conv.bias"}.get(
                initializer.name, initializer.name)
            if source in dict(plain.named_parameters()):
                layer = node.name if made_up(initializer.name) else source.rpartition(".")[0]
                parameters.append((initializer.name, layer, source, False))
        global file_parameters
        kept, file_parameters = file_parameters, lambda *_: parameters
        write_case(index, name, path, model, Network(plain, {"x": shape}, *spec), (inputs,), True,
                   tolerance="exact")
        file_parameters = kept


def with_parameters(index, name, path, model, network, parameters, inputs):
    """A case whose parameters are known."""
    global file_parameters
    kept, file_parameters = file_parameters, lambda *_: parameters
    write_case(index, name, path, model, network, inputs, False, tolerance="exact")
    file_parameters = kept


def made_of_layers(index):
    """Recurrent nodes with parameters in the file's layout."""
    for name, path, model, network, parameters in recurrent.write_nodes(MODELS, KEEP, wanted):
        inputs = network.draw(6, torch.Generator().manual_seed(15))
        print(f"{name}: by ONNX Runtime {check(path, inputs, network.module.double()(*inputs), network)}")
        with_parameters(index, name, path, model, network, parameters, inputs)
    for name in ("lstm", "gru", "rnn"):
        if not wanted(name):
            continue
        torch.manual_seed(22)
        network = recurrent.makers()[name]()
        inputs = network.draw(6, torch.Generator().manual_seed(16))
        for variant in ("new_optimized", "old_folded"):
            if (name, variant) == ("rnn", "new_optimized"):  # written step by step
                continue
            path = MODELS / f"{name}.{variant}.onnx"
            example = tuple(v[:2].float() for v in inputs)
            model = export(network.module, example, path, **MORE[variant])
            module, parameters = recurrent.folded(copy.deepcopy(network.module), model, 3)
            case = Network(module, network.inputs)
            with_parameters(index, path.stem, path, model, case, parameters, inputs)


def batch_of_one(index):
    for network in ("lenet_relu", "joined", "one_dimensional"):
        module, shape, *spec = networks()[network]
        inputs = torch.randn((6, *shape), generator=torch.Generator().manual_seed(14)).double()
        for variant, settings in (("new", dict(exporter="dynamo", fold=False)),
                                  ("old", dict(exporter="script", opset=17))):
            name = f"{network}.{variant}_one"
            path = MODELS / f"{name}.onnx"
            model = export(module.eval(), inputs[:1].float(), path, symbolic=False, **settings)
            write_case(index, name, path, model, Network(module, {"x": shape}, *spec), (inputs,), False,
                       tolerance="exact")


if __name__ == "__main__":
    main()
