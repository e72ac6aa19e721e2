"""How far G is from H in LeNet-5, in double precision by PyTorch, to check hessblock's own study against.

    python examples/study/reference.py FOLDER        # writes FOLDER/reference.json; some minutes

FOLDER has the files of models.py; the weights are those of lenet5_tanh.onnx and lenet5_relu.onnx, the loss is the
mean cross-entropy over all of images28.npy. A layer is the parameters that share the name before the last dot.

    layers    ggn_form = gᵀGg/‖g‖², hessian_form = gᵀHg/‖g‖², form_error = |gᵀ(H−G)g|/‖g‖², with g the gradient
              at the layer and zero elsewhere
    pairs     of layers (a, b): frobenius and spectral, ‖H_ab − G_ab‖/‖H_ab‖, and hessian_frobenius and
              hessian_spectral, ‖H_ab‖

Blocks are whole, of columns of H by forward over reverse and of G from the Jacobian. Blocks of more than 10⁸
entries are not formed: their frobenius is null, and their spectral norm is Lanczos's, to ten digits. What is
under 10⁻¹² of the whole is rounding: H_ab − G_ab is zero.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnx.numpy_helper
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, eigsh, svds

from models import MODELS, images_file

NAMES = ["lenet5_tanh", "lenet5_relu"]
LARGEST = 1e8  # entries of a block that is formed


class Study:
    """H and G of a network by products and columns; `layers` has each layer's range of the flat order."""

    def __init__(self, folder, name):
        make, shape = MODELS[name]
        module = make().double().eval()
        arrays = {i.name: torch.tensor(onnx.numpy_helper.to_array(i))
                  for i in onnx.load(folder / f"{name}.onnx").graph.initializer}
        parameters = {k: a.double() for k, a in arrays.items() if k in dict(module.named_parameters())}
        assert len(parameters) == len(list(module.parameters())), "the file keeps every parameter"
        self.layers, at = {}, 0
        for key, value in parameters.items():
            layer = key.rpartition(".")[0]
            start = self.layers.get(layer, slice(at, at)).start
            at += value.numel()
            self.layers[layer] = slice(start, at)
        x = torch.tensor(np.load(folder / images_file(shape))).double()
        y = torch.tensor(np.load(folder / "labels.npy"))

        def outputs(w):
            parts = w.split([p.numel() for p in parameters.values()])
            shaped = {k: part.reshape(p.shape) for (k, p), part in zip(parameters.items(), parts)}
            return torch.func.functional_call(module, shaped, x)

        w = torch.cat([p.reshape(-1) for p in parameters.values()])
        loss = lambda w: F.cross_entropy(outputs(w), y)
        z = outputs(w)
        self.samples, self.count = len(x), w.numel()
        self.loss, self.gradient = loss(w).item(), torch.func.grad(loss)(w)
        self.jacobian = torch.func.jacrev(outputs, chunk_size=64)(w).reshape(-1, self.count)
        self.curvature = torch.func.hessian(
            lambda flat: F.cross_entropy(flat.reshape(z.shape), y))(z.reshape(-1))
        self.hessian = lambda v: torch.func.jvp(torch.func.grad(loss), (w,), (v,))[1]

    def ggn(self, v):
        return self.jacobian.T @ (self.curvature @ (self.jacobian @ v))

    def columns(self, layer):
        """The rows of H at a layer, which are its columns: [layer, p]."""
        at = self.layers[layer]
        units = torch.zeros(at.stop - at.start, self.count, dtype=torch.float64)
        units[torch.arange(len(units)), torch.arange(at.start, at.stop)] = 1
        return torch.func.vmap(self.hessian, chunk_size=8)(units)


def form_errors(study):
    rows = []
    for layer, at in study.layers.items():
        g = torch.zeros_like(study.gradient)
        g[at] = study.gradient[at]
        square = g @ g
        ggn, hessian = (g @ study.ggn(g) / square).item(), (g @ study.hessian(g) / square).item()
        rows.append({"layer": layer, "parameters": at.stop - at.start, "gradient_norm": square.sqrt().item(),
                     "ggn_form": ggn, "hessian_form": hessian, "form_error": abs(hessian - ggn)})
    return rows


def spectral(block):
    """The largest singular value, from the Gram matrix of the smaller side."""
    gram = block @ block.T if len(block) <= block.shape[1] else block.T @ block
    return max(torch.linalg.eigvalsh(gram)[-1].item(), 0) ** 0.5


def spectral_by_products(product, rows, columns, count):
    """The same of the block (rows, columns) of a symmetric matrix that is only multiplied with."""
    def between(into, out_of):
        def apply(vector):
            v = torch.zeros(count, dtype=torch.float64)
            v[out_of] = torch.tensor(vector.reshape(-1))
            return product(v)[into].numpy()
        return apply

    shape = tuple(at.stop - at.start for at in (rows, columns))
    forth, back = between(rows, columns), between(columns, rows)
    block = LinearOperator(shape, matvec=forth, rmatvec=back, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(min(shape))
    if rows == columns:
        return abs(eigsh(block, k=1, tol=1e-10, v0=start, return_eigenvectors=False)[0])
    return svds(block, k=1, tol=1e-10, v0=start, return_singular_vectors=False)[0]


def pair_errors(study):
    sizes = {layer: at.stop - at.start for layer, at in study.layers.items()}
    names, found = list(sizes), {}
    pairs = [(a, b) for k, a in enumerate(names) for b in names[k:]]
    for narrow in sorted(sizes, key=sizes.get):
        mine = [(a, b) for a, b in pairs if narrow in (a, b) and (a, b) not in found]
        formed = [pair for pair in mine if sizes[pair[0]] * sizes[pair[1]] <= LARGEST]
        columns = study.columns(narrow) if formed else None
        own = study.curvature @ study.jacobian[:, study.layers[narrow]]
        for a, b in mine:
            entry = {"rows": a, "columns": b, "entries": sizes[a] * sizes[b]}
            other = study.layers[b if a == narrow else a]
            if (a, b) in formed:
                block = columns[:, other]
                error = block - own.T @ study.jacobian[:, other]
                entry |= {"hessian_frobenius": block.norm().item(), "hessian_spectral": spectral(block),
                          "frobenius": (error.norm() / block.norm()).item()}
                entry["spectral"] = spectral(error) / entry["hessian_spectral"]
            else:
                where = (study.layers[a], study.layers[b], study.count)
                entry |= {"hessian_frobenius": None, "frobenius": None,
                          "hessian_spectral": spectral_by_products(study.hessian, *where)}
                residual = lambda v: study.hessian(v) - study.ggn(v)
                at_random = torch.zeros(study.count, dtype=torch.float64)
                at_random[study.layers[b]] = torch.randn(sizes[b], dtype=torch.float64)
                size = residual(at_random)[study.layers[a]].norm()
                # Lanczos finds no end in what is rounding alone.
                zero = size < 1e-12 * study.hessian(at_random)[study.layers[a]].norm()
                entry["spectral"] = 0.0 if zero else (
                    spectral_by_products(residual, *where) / entry["hessian_spectral"])
            print(json.dumps(entry), flush=True)
            found[a, b] = entry
    return [found[pair] for pair in pairs]


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder, result = pathlib.Path(sys.argv[1]), {}
    torch.manual_seed(0)
    for name in NAMES:
        study = Study(folder, name)
        result[name] = {"samples": study.samples, "parameters": study.count, "loss": study.loss,
                        "layers": form_errors(study), "pairs": pair_errors(study)}
    (folder / "reference.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
