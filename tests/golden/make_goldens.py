"""Writes the golden files: small ONNX networks as PyTorch's exporters write them, and reference values.

    python make_goldens.py            # needs torch, onnx, onnxscript, onnxruntime
    python make_goldens.py --keep     # makes only what is not there yet

Reference values come from PyTorch in double precision: J by torch.func.jacrev, the Hessian of the loss in
the outputs by torch.func.hessian, G = Jᵀ ∇²ℓ J, H by torch.func.hessian in the weights. The weights are
rounded to the precision of the file first. The flat order is that of the file: its initializers in order.
Per case index.json says: model, data, loss {name, reduction, options}, tolerance class, the parameters
(name, layer, shape) in flat order, and the keys of the data file: inputs, targets, outputs, loss, gradient,
rows (indices), G_rows and H_rows [rows, p], G_diagonal, H_diagonal.
"""

import copy
import json
import logging
import pathlib
import re
import sys
import warnings

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import torch
import torch.nn.functional as F

from networks import FusedNorm, networks

HERE = pathlib.Path(__file__).parent
KEYS = ["inputs", "targets", "outputs", "loss", "gradient", "rows", "G_rows", "H_rows", "G_diagonal",
        "H_diagonal"]
MODELS, DATA = HERE / "models", HERE / "data"
NEWEST = 25
KEEP = "--keep" in sys.argv
FULL = 90  # up to this many parameters the whole matrices are kept


def made_up(name):
    return bool(re.fullmatch(r"(val_|_val_)?\d+", name)) or name.startswith(("onnx::", "/"))


def export(module, example, path, exporter, fold=True, opset=None, symbolic=True, external=False):
    if KEEP and path.exists():
        return onnx.load(path)
    module = copy.deepcopy(module).eval()
    if exporter == "dynamo":
        batch = torch.export.Dim("batch")
        torch.onnx.export(
            module, (example,), path, dynamo=True, optimize=fold, opset_version=opset, verbose=False,
            dynamic_shapes=({0: batch},) if symbolic else None, external_data=external,
        )
    else:
        torch.onnx.export(
            module, (example,), path, dynamo=False, do_constant_folding=fold, opset_version=opset,
            input_names=["x"], dynamic_axes={"x": {0: "batch"}} if symbolic else None,
        )
        if external:
            model = onnx.load(path)
            onnx.save(model, path, save_as_external_data=True, location=path.name + ".data",
                      size_threshold=0)
    return onnx.load(path)


def loss_function(name, reduction, options):
    """(outputs, targets) → loss, as PyTorch defines it."""
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


def file_parameters(model, module):
    """The file's initializers that are parameters: (name, layer, module's name, transposed)."""
    named = {k: v.detach().numpy() for k, v in module.named_parameters()}
    buffers = {k for k, _ in module.named_buffers()}
    names = {i.name for i in model.graph.initializer}
    arrays = [(i.name, onnx.numpy_helper.to_array(i)) for i in model.graph.initializer]
    # The older exporter gives equal-valued weights as Identity of one of them.
    values = dict(arrays)
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in values and "." in node.output[0]:
            arrays.append((node.output[0], values[node.input[0]]))
    found = []
    for name, array in arrays:
        if name in buffers or array.dtype.kind != "f":
            continue
        if name in named:
            found.append((name, name.rpartition(".")[0] or name, name, False))
            continue
        same = [(k, t) for k, v in named.items() for t in (False, True)
                if v.ndim <= 2 and (v.T if t else v).shape == array.shape
                and np.array_equal(v.T if t else v, array) and array.size > 1]
        if not same:
            continue
        assert made_up(name), name
        source, transposed = same[0]
        layer = source.rpartition(".")[0]
        if f"{layer}.bias" not in names or not layer:
            layer = next(n.name for n in model.graph.node if name in n.input)
        found.append((name, layer, source, transposed))
    assert {f[2] for f in found} == set(named), (found, list(named))
    return found


def reference(module, parameters, inputs, loss, targets):
    """Outputs, loss, gradient, G and H in the file's flat order."""
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

    network = lambda w: torch.func.functional_call(module, unflatten(w), (inputs,))
    outputs = network(flat)
    jacobian = torch.func.jacrev(network)(flat).reshape(outputs.numel(), -1)
    curvature = torch.func.hessian(lambda z: loss(z.reshape(outputs.shape), targets))(outputs.reshape(-1))
    total = lambda w: loss(network(w), targets)
    return (outputs, total(flat), torch.func.grad(total)(flat), jacobian.T @ curvature @ jacobian,
            torch.func.hessian(total)(flat))


def write_data(data, path, module, parameters, inputs, spec, full):
    loss_name, reduction, options = spec
    generator = torch.Generator().manual_seed(7)
    module = copy.deepcopy(module).double()
    with torch.no_grad():
        outputs = module(inputs)
    targets = targets_for(loss_name, options, outputs, generator)
    loss = loss_function(loss_name, reduction, options)
    outputs, value, gradient, ggn, exact = reference(module, parameters, inputs, loss, targets)
    check(path, inputs, outputs)
    p = gradient.numel()
    rows = np.arange(p) if full and p <= FULL else np.unique(np.linspace(0, p - 1, 5).astype(np.int64))
    arrays = {
        "inputs": inputs.numpy(), "targets": targets.numpy(), "outputs": outputs.detach().numpy(),
        "loss": value.detach().reshape(1).numpy(), "gradient": gradient.detach().numpy(), "rows": rows,
        "G_rows": ggn.detach().numpy()[rows], "H_rows": exact.detach().numpy()[rows],
        "G_diagonal": ggn.detach().diagonal().numpy(), "H_diagonal": exact.detach().diagonal().numpy(),
    }
    np.savez_compressed(data, **arrays)
    print(f"{data.stem}: p = {p}, rows {len(rows)}")


def write_case(index, name, path, model, module, inputs, spec, full, tolerance="exact"):
    loss_name, reduction, options = spec
    module = copy.deepcopy(module).eval()
    try:
        parameters = file_parameters(model, module)
    except AssertionError:  # an optimising exporter multiplied a parameter into a constant
        print(f"{name}: not kept, its parameters are not those of the module")
        path.unlink()
        return
    data = DATA / f"{name}.npz"
    if not (KEEP and data.exists()):
        write_data(data, path, module, parameters, inputs, spec, full)
    sizes = {k: list(v.shape) for k, v in module.named_parameters()}
    index.append({
        "name": name, "model": f"models/{path.name}", "data": f"data/{name}.npz",
        "loss": {"name": loss_name, "reduction": reduction, "options": options},
        "tolerance": tolerance, "p": sum(int(np.prod(sizes[s])) for _, _, s, _ in parameters),
        "parameters": [
            {"name": n, "layer": layer, "shape": sizes[s][::-1] if t else sizes[s]}
            for n, layer, s, t in parameters],
        "keys": KEYS,
    })


def check(path, inputs, outputs):
    """ONNX Runtime must agree that the file computes the module (as far as its batch allows)."""
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # operations too new for the runtime
        print(f"  not run: {str(error)[:90]}")
        return
    info = session.get_inputs()[0]
    kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(info.type, np.float32)
    batch = info.shape[0] if isinstance(info.shape[0], int) else len(inputs)
    repeated = np.resize(inputs.numpy(), (batch, *inputs.shape[1:])).astype(kind)
    try:
        got = session.run(None, {info.name: repeated})[0][:len(inputs)]
    except Exception as error:  # the runtime has no SAME padding with dilation
        print(f"  not run: {str(error)[-90:]}")
        return
    off = np.abs(got - outputs.detach().numpy()[:len(got)]).max()
    if off > (3e-2 if kind == np.float16 else 1e-5):
        print(f"  ONNX Runtime differs by {off:.1e}")


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
FOLDED = ["mlp_relu", "residual", "convolutions", "one_dimensional", "pools", "norms", "positions",
          "left_weight", "joined", "sequence_first"]


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    for folder in (MODELS, DATA):
        folder.mkdir(exist_ok=True)
        for old in [] if KEEP else folder.iterdir():
            old.unlink()
    index = []
    for network, (module, shape, *spec) in networks().items():
        module.eval()
        generator = torch.Generator().manual_seed(11)
        inputs = torch.randn((6, *shape), generator=generator).double()
        variants = dict(VARIANTS)
        if network in ("mlp_tanh", "lenet_tanh"):
            variants |= MORE
        elif network in FOLDED:
            variants |= {k: MORE[k] for k in ("new_optimized", "old_folded", "new_fixed_optimized",
                                              "old_opset11", "old_opset13_fixed")}
        for k, (variant, settings) in enumerate(variants.items()):
            name = f"{network}.{variant}"
            path = MODELS / f"{name}.onnx"
            example = inputs[:2 if settings.get("symbolic", True) else 4].float()
            try:
                model = export(module, example, path, **settings)
            except Exception as error:
                print(f"{name}: not exported: {str(error)[:200]}")
                path.unlink(missing_ok=True)
                continue
            write_case(index, name, path, model, module, inputs, spec, full=k == 0)
    precisions(index)
    fused(index)
    batch_of_one(index)
    (HERE / "index.json").write_text(json.dumps({"cases": index}, indent=1) + "\n")


def precisions(index):
    """Weights stored in half and in double precision."""
    module, shape, *spec = networks()["mlp_tanh"]
    inputs = torch.randn((6, *shape), generator=torch.Generator().manual_seed(12)).half().double()
    for variant, kind in (("half", torch.float16), ("double", torch.float64)):
        name = f"mlp_tanh.{variant}"
        path = MODELS / f"{name}.onnx"
        stored = copy.deepcopy(module).to(kind)
        model = export(stored, inputs[:2].to(kind), path, "script", opset=17)
        write_case(index, name, path, model, stored, inputs, spec, full=True)


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
        write_case(index, name, path, model, plain, inputs, spec, full=True)
        file_parameters = kept


def batch_of_one(index):
    for network in ("lenet_relu", "joined", "one_dimensional"):
        module, shape, *spec = networks()[network]
        inputs = torch.randn((6, *shape), generator=torch.Generator().manual_seed(14)).double()
        for variant, settings in (("new", dict(exporter="dynamo", fold=False)),
                                  ("old", dict(exporter="script", opset=17))):
            name = f"{network}.{variant}_one"
            path = MODELS / f"{name}.onnx"
            model = export(module.eval(), inputs[:1].float(), path, symbolic=False, **settings)
            write_case(index, name, path, model, module, inputs, spec, full=False)


if __name__ == "__main__":
    main()
