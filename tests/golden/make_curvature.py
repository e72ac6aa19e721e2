"""Writes reference values of curvature products: curvature.json and data/curvature_*.npz.

    python make_curvature.py            # needs torch, onnx, onnxruntime
    python make_curvature.py --check    # writes nothing; compares with what is there, and with curvlinops

Runs after make_goldens.py, which empties data/. Takes networks that it exported, with the weights of their
files, and checks each against its golden outputs, gradient and rows of G and H. All is in double precision by
torch.func and in the flat order of the file. G comes from whole Jacobians, so that it shares nothing with
products J·v and Jᵀ·u; the residual is the Hessian of Σ_c (∂ℓ/∂z_c) z_c with ∂ℓ/∂z held, not a difference.
N samples, outputs flattened to C; V and U are numbers of single precision. Per case the data file has:

    V [3, p], GV, HV, RV [3, p]     products with G, H and H − G
    form_G, form_H [3]              vᵀGv and vᵀHv
    trace_G, trace_H [1]
    layer_form_G, layer_form_H      gᵀGg and gᵀHg, g the gradient at a layer's parameters and zero elsewhere,
                                    in the order of `layers` in curvature.json
    JV [N, 3, C]                    J_n v
    U [N, 3, C], JTU [3, p]         Σ_n J_nᵀ u_n
    weights [N]                     ω_n
    rows, EF_rows, EF_diagonal      of the empirical Fisher Σ_n ∇ℓ_n ∇ℓ_nᵀ / ω_n

ℓ_n is the sample's term of the loss, with the weight ω_n that the reduction gives it: cross-entropy has the
mean over the sample's kept positions of Σ_c t_c w_c / D, with t the smoothed one-hot or the probabilities, w
the class weights and D the mean's divisor (Σ w_y over kept indices, the number of targets for probabilities;
1 for a sum); mse and bce have 1/(N·C), and 1 for a sum. Samples of weight 0 add nothing.
"""

import json
import pathlib
import sys
import zlib

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import blocks
import operations
from make_goldens import file_parameters, loss_function
from networks import networks
from spec import Network

HERE = pathlib.Path(__file__).parent
CASES = [  # between them all families of operations and all losses
    "mlp_relu.new", "mlp_smooth.new", "act_gelu.new", "residual.new", "convolutions.new", "lenet_relu.new",
    "lenet_tanh.new", "pools.new", "norms.new", "unet.new", "per_position.new", "class_axis_last.new",
    "gpt_tied.new", "tokens_and_numbers.new", "einsum_scores.new", "shuffle_unit.new", "rank_gather.new",
    "space_bilinear_down.new", "tied_transposed.new", "small_efficientnet.new",
]
SECOND_OPINION = ["act_gelu.new", "lenet_tanh.new"]  # curvlinops has no weights, and no H of SiLU
VECTORS = 3


def network_of(name):
    """The module as make_goldens.py built it; its weights come from the file."""
    first = networks()
    if name in first:
        module, shape, *spec = first[name]
        return Network(module, {"x": shape}, *spec)
    torch.manual_seed(zlib.crc32(name.encode()))
    return (operations.makers() | blocks.makers())[name]()


def load_weights(module, model):
    """Gives the module the file's numbers, buffers too, in double precision."""
    arrays = {i.name: torch.tensor(onnx.numpy_helper.to_array(i)) for i in model.graph.initializer}
    held = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    found = {k: v for k, v in arrays.items() if k in held}
    own = {id(held[k]) for k in found}
    missing = [k for k, v in module.named_parameters() if id(v) not in own]
    assert not missing, f"the file lacks {missing}"
    with torch.no_grad():
        for name, value in found.items():
            held[name].copy_(value)
    return module.double().eval()


class Case:
    """A golden case: functions of the flat weights w, and the arrays of its data file."""

    def __init__(self, entry):
        self.entry, self.loss = entry, entry["loss"]
        self.data = np.load(HERE / entry["data"])
        self.network = network_of(entry["name"].split(".")[0])
        model = onnx.load(HERE / entry["model"])
        self.module = load_weights(self.network.module, model)
        self.sources = [(s, t) for _, _, s, t in file_parameters(model, self.module, self.network.output)]
        assert not any(t for _, t in self.sources), "take a file that keeps its parameters as they are"
        values = dict(self.module.named_parameters())
        self.shapes = [values[s].shape for s, _ in self.sources]
        self.flat = torch.cat([values[s].detach().reshape(-1) for s, _ in self.sources])
        several = len(self.network.inputs) > 1
        self.inputs = tuple(
            torch.tensor(self.data[f"inputs.{k}" if several else "inputs"]) for k in self.network.inputs)
        self.targets = torch.tensor(self.data["targets"])

    def split(self, w):
        parts = w.split([s.numel() for s in self.shapes])
        return {name: part.reshape(s) for (name, _), part, s in zip(self.sources, parts, self.shapes)}

    def outputs(self, w):
        return self.network.chosen(torch.func.functional_call(self.module, self.split(w), self.inputs))

    def total(self, z):
        options, axis = self.loss["options"], self.loss.get("class_axis")
        return loss_function(self.loss["name"], self.loss["reduction"], options, axis)(z, self.targets)

    def terms(self, z):
        """ℓ_n and ω_n, [N] each."""
        samples, mean = len(z), self.loss["reduction"] == "mean"
        if self.loss["name"] != "cross_entropy":
            weight = 1 / z.numel() if mean else 1.0
            each = loss_function(self.loss["name"], "none", self.loss["options"])(z, self.targets)
            weights = torch.full((samples,), weight, dtype=torch.float64)
            return weight * each.reshape(samples, -1).sum(1), weights
        options, y = self.loss["options"], self.targets
        z = z.movedim(self.loss.get("class_axis", 1), 1)
        each = loss_function("cross_entropy", "none", options)(z, y).reshape(samples, -1)
        classes = z.shape[1]
        w = torch.tensor(options.get("class_weights", [1.0] * classes), dtype=torch.float64)
        smoothing = options.get("label_smoothing", 0.0)
        if y.is_floating_point():  # probabilities, [N, classes, …]
            kept, t = torch.ones_like(each, dtype=torch.bool), y.movedim(1, -1)
            divisor = each.numel()
        else:
            kept = (y != options.get("ignore_index", -100)).reshape(samples, -1)
            indices = torch.where(kept, y.reshape(samples, -1), 0)
            t = F.one_hot(indices, classes).double()
            divisor = (w[indices] * kept).sum()
        t = (1 - smoothing) * t.reshape(samples, -1, classes) + smoothing / classes
        weights = (t @ w * kept).sum(1) / kept.sum(1).clamp(min=1)
        divisor = divisor if mean else 1.0
        return each.sum(1) / divisor, weights / divisor


def values_of(case):
    """name → array of everything in the data file."""
    generator = torch.Generator().manual_seed(zlib.crc32(case.entry["name"].encode()))
    draw = lambda *shape: torch.randn(shape, generator=generator).double()
    w, p = case.flat, case.flat.numel()
    z = case.outputs(w)
    samples = len(z)
    jacobian = torch.func.jacrev(case.outputs)(w).reshape(samples, -1, p)
    slope = torch.func.grad(case.total)(z)
    curvature = torch.func.hessian(lambda flat: case.total(flat.reshape(z.shape)))(z.reshape(-1))
    rows_of_outputs = jacobian.reshape(-1, p)
    ggn = rows_of_outputs.T @ curvature @ rows_of_outputs
    gradient = torch.func.grad(lambda w: case.total(case.outputs(w)))(w)
    # Reverse over reverse: forward over reverse (torch.func.hessian) of layer_norm gives a matrix that is not symmetric.
    second = lambda f: torch.autograd.functional.hessian(f, w, vectorize=True)
    hessian = second(lambda w: case.total(case.outputs(w)))
    residual = second(lambda w: (slope * case.outputs(w)).sum())
    assert_close("H = G + R", hessian, ggn + residual)
    assert_close("H = Hᵀ", hessian, hessian.T)
    agree_with_goldens(case, z, gradient, ggn, hessian)

    _, weights = case.terms(z)
    slopes = torch.func.jacrev(lambda w: case.terms(case.outputs(w))[0])(w)
    assert_close("Σ ∇ℓ_n = ∇ℓ", slopes.sum(0), gradient)
    used = weights > 0
    fisher = slopes[used].T @ (slopes[used] / weights[used, None])

    v, u = draw(VECTORS, p), draw(samples, VECTORS, jacobian.shape[1])
    forms = lambda vectors, matrix: torch.einsum("kp,pq,kq->k", vectors, matrix, vectors)
    restricted = torch.stack([gradient * mask for mask in layers(case.entry).values()])
    rows = np.unique(np.linspace(0, p - 1, 3).astype(np.int64))
    arrays = {
        "V": v, "GV": v @ ggn, "HV": v @ hessian, "RV": v @ residual,
        "form_G": forms(v, ggn), "form_H": forms(v, hessian),
        "trace_G": ggn.trace().reshape(1), "trace_H": hessian.trace().reshape(1),
        "layer_form_G": forms(restricted, ggn), "layer_form_H": forms(restricted, hessian),
        "JV": torch.einsum("ncp,kp->nkc", jacobian, v), "U": u,
        "JTU": torch.einsum("ncp,nkc->kp", jacobian, u),
        "weights": weights, "rows": torch.tensor(rows), "EF_rows": fisher[rows],
        "EF_diagonal": fisher.diagonal(),
    }
    return {k: np.ascontiguousarray(a.detach().numpy()) for k, a in arrays.items()}


def layers(entry):
    """layer → mask over the flat order."""
    counts = [int(np.prod(q["shape"])) for q in entry["parameters"]]
    owner = np.repeat([q["layer"] for q in entry["parameters"]], counts)
    return {layer: torch.tensor(owner == layer) for layer in dict.fromkeys(owner.tolist())}


def apart(got, expected):
    """The largest difference, relative to the largest entry."""
    got, expected = (a.detach().numpy() if isinstance(a, torch.Tensor) else a for a in (got, expected))
    return float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30))


def assert_close(what, got, expected, tolerance=1e-12):
    off = apart(got, expected)
    assert off <= tolerance, f"{what}: differs by {off:.1e}"


def agree_with_goldens(case, z, gradient, ggn, hessian):
    """The file's numbers in this module give the golden values."""
    data, rows = case.data, case.data["rows"]
    assert_close("outputs", z, data["outputs"])
    assert_close("gradient", gradient, data["gradient"])
    for name, matrix in (("G", ggn), ("H", hessian)):
        if f"{name}_rows" in data:
            assert_close(f"{name}_rows", matrix[rows], data[f"{name}_rows"])
            assert_close(f"{name}_diagonal", matrix.diagonal(), data[f"{name}_diagonal"])


def curvlinops_agrees(case, arrays):
    """The same products by curvlinops, which multiplies without any matrix."""
    from curvlinops import EFLinearOperator, GGNLinearOperator, HessianLinearOperator

    kinds = {"mse": torch.nn.MSELoss, "cross_entropy": torch.nn.CrossEntropyLoss}
    loss = kinds[case.loss["name"]](reduction=case.loss["reduction"], **case.loss["options"])
    named = dict(case.module.named_parameters())
    parameters = [named[s] for s, _ in case.sources]
    setting = (case.module, loss, parameters, [(*case.inputs, case.targets)])
    v = torch.tensor(arrays["V"]).T
    for kind, key in ((GGNLinearOperator, "GV"), (HessianLinearOperator, "HV"), (EFLinearOperator, None)):
        operator = kind(*setting, check_deterministic=False)
        if key:
            got, expected = (operator @ v).T, arrays[key]
        else:  # rows of the Fisher are its products with unit vectors
            got = (operator @ torch.eye(v.shape[0]).double()[:, arrays["rows"]]).T
            expected = arrays["EF_rows"]
        assert_close(f"{case.entry['name']}: {kind.__name__}", got, expected, 1e-11)
        print(f"{case.entry['name']}: {kind.__name__} differs by {apart(got, expected):.0e}")


def main():
    check = "--check" in sys.argv
    entries = {c["name"]: c for c in json.loads((HERE / "index.json").read_text())["cases"]}
    lines = []
    for name in CASES:
        case = Case(entries[name])
        with sdpa_kernel(SDPBackend.MATH):  # the others have no forward derivative
            arrays = values_of(case)
        path = HERE / "data" / f"curvature_{name}.npz"
        assert all(np.isfinite(a).all() for a in arrays.values()), name
        if check:
            there = np.load(path)
            for key, values in arrays.items():
                assert_close(f"{name}: {key}", values, there[key])
            if name in SECOND_OPINION:
                curvlinops_agrees(case, arrays)
        else:
            np.savez_compressed(path, **arrays)
        ratio = np.linalg.norm(arrays["RV"]) / np.linalg.norm(arrays["HV"])
        print(f"{name}: p = {case.flat.numel()}, residual/H = {ratio:.2f}, "
              f"{(arrays['weights'] == 0).sum()} samples of weight 0")
        lines.append(json.dumps({"name": name, "data": f"data/{path.name}",
                                 "layers": list(layers(entries[name])), "keys": list(arrays)}))
    if not check:
        (HERE / "curvature.json").write_text('{"cases": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
