"""Whole networks as people have them, exported by PyTorch, and what PyTorch computes of them in double precision.

    python tests/whole/make.py OUT [NAME…]      # needs torch, torchvision, onnx, onnxscript, onnxruntime

Weights are random (nothing is downloaded), rounded to the precision of the file; the running statistics of
batch norms come from random data, so that values stay near 1. Per network OUT has NAME.onnx,
NAME.inputs.npy, NAME.targets.npy and NAME.npz:

    loss [1], outputs, gradient [p], G_diagonal [p], rows (flat indices), G_rows [rows, p]

G is never formed: a row is Jᵀ ∇²ℓ J e_i by a jvp and a vjp, the diagonal the squared vjp of every sample's
columns of a factor of ∇²ℓ. The flat order is that of the file's initializers; `index.json` lists the cases.
The small versions of these networks are cases of `tests/golden`.
"""

import copy
import json
import logging
import pathlib
import resource
import sys
import time
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from torch.nn.attention import SDPBackend, sdpa_kernel

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "golden")]

import double  # noqa: E402
from blocks import Gpt, sane  # noqa: E402
from make_goldens import file_parameters, slim  # noqa: E402

ROWS = 6


def weights(module):
    """Weights under which a network without norms keeps the size of its values."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight)
            if part.bias is not None:
                nn.init.normal_(part.bias, 0, 0.1)
    return module


def lenet5():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(),
        nn.Linear(84, 10))


def twoc2d():
    return weights(nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3136, 1024), nn.ReLU(), nn.Linear(1024, 10)))


def threec3d():
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return weights(nn.Sequential(
        nn.Conv2d(3, 64, 5), nn.ReLU(), pool, nn.Conv2d(64, 96, 3), nn.ReLU(), pool,
        nn.Conv2d(96, 128, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.Linear(1152, 512), nn.ReLU(),
        nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)))


def allcnn():
    conv = lambda a, b, k=3, s=1, p=1: [nn.Conv2d(a, b, k, s, p), nn.ReLU()]
    return weights(nn.Sequential(
        *conv(3, 96), *conv(96, 96), *conv(96, 96, s=2), *conv(96, 192), *conv(192, 192),
        *conv(192, 192, s=2), *conv(192, 192, p=0), *conv(192, 192, 1, p=0), *conv(192, 10, 1, p=0),
        nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def mlp():
    return weights(nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128),
                                 nn.ReLU(), nn.Linear(128, 10)))


def resnet18_small():
    module = torchvision.models.resnet18(num_classes=10)
    module.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    module.maxpool = nn.Identity()
    return module


def vit():
    module = torchvision.models.VisionTransformer(
        image_size=32, patch_size=4, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10)
    nn.init.normal_(module.class_token)
    nn.init.normal_(module.heads.head.weight, 0, 0.25)
    for part in module.modules():
        if isinstance(part, nn.MultiheadAttention):
            nn.init.normal_(part.in_proj_bias, 0, 0.1)
            nn.init.normal_(part.out_proj.bias, 0, 0.1)
    return module


class Text(nn.Module):
    """Embedding, the mean over the tokens that are not padding, two linear layers."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(2000, 64, padding_idx=0)
        self.hidden = nn.Linear(64, 64)
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        mask = (x != 0).to(self.hidden.weight.dtype).unsqueeze(-1)
        h = (self.embedding(x) * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        return self.head(torch.relu(self.hidden(h)))


CASES = {  # name: (maker, shape of a sample, samples, what token inputs count to)
    "mlp": (mlp, (1, 28, 28), 4, 0),
    "lenet5": (lenet5, (1, 28, 28), 4, 0),
    "2c2d": (twoc2d, (1, 28, 28), 4, 0),
    "3c3d": (threec3d, (3, 32, 32), 4, 0),
    "allcnnc": (allcnn, (3, 32, 32), 4, 0),
    "text": (Text, (24,), 8, 2000),
    "gpt": (lambda: Gpt(64, 64, 4, 16, 2, scale=0.25), (16,), 2, 64),
    "vit": (vit, (3, 32, 32), 4, 0),
    "resnet18_32": (resnet18_small, (3, 32, 32), 4, 0),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(num_classes=10), (3, 224, 224), 2, 0),
    "efficientnet_b0": (lambda: torchvision.models.efficientnet_b0(num_classes=10), (3, 224, 224), 2, 0),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=10), (3, 224, 224), 2, 0),
}


def settled(module, shape):
    """Norms with scales of their own, running statistics of random data, epsilons as the file stores them."""
    sane(module)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for part in module.modules():
        if isinstance(getattr(part, "eps", None), float):
            part.eps = float(np.float32(part.eps))
    if norms:
        kept = [m.momentum for m in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        module.train()
        with torch.no_grad():
            module(torch.randn(16, *shape))
        for norm, momentum in zip(norms, kept):
            norm.momentum = momentum
    return module.eval()


def export(module, example, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), path, dynamo=True, optimize=False, external_data=False,
                          verbose=False, dynamic_shapes=({0: torch.export.Dim("batch")},))
    slim(path)
    return onnx.load(path)


def reference(module, parameters, inputs, targets, class_axis, generator):
    """The arrays of NAME.npz."""
    module = copy.deepcopy(module).double()
    named = dict(module.named_parameters())
    order = [(named[source], transposed) for _, _, source, transposed in parameters]
    flat = lambda parts: torch.cat([
        (g.T if t else g).reshape(-1) for g, (_, t) in zip(parts, order)]).detach()
    p = sum(v.numel() for v, _ in order)
    loss = lambda z: F.cross_entropy(z.movedim(class_axis, 1), targets)
    sources = [source for _, _, source, _ in parameters]

    outputs = module(inputs)
    value = loss(outputs)
    gradient = flat(torch.autograd.grad(value, [v for v, _ in order]))

    diagonal = torch.zeros(p, dtype=torch.float64)
    share = 1 / targets.numel()  # of a position in the mean
    for n in range(len(inputs)):
        z = module(inputs[n:n + 1]).movedim(class_axis, -1).reshape(-1, outputs.shape[class_axis])
        chances = z.detach().softmax(-1)
        for position, q in enumerate(chances):
            for c, chance in enumerate(q):  # ∇²ℓ = Σ_c q_c (e_c − q)(e_c − q)ᵀ
                column = -q.clone()
                column[c] += 1
                last = position + 1 == len(chances) and c + 1 == len(q)
                parts = torch.autograd.grad(z[position], [v for v, _ in order], column * (chance * share).sqrt(),
                                            retain_graph=not last)
                diagonal += flat(parts) ** 2
    rows = []
    offsets = np.cumsum([0] + [v.numel() for v, _ in order])
    for k in np.unique(np.linspace(0, len(order) - 1, ROWS).astype(int)):
        alive = diagonal[offsets[k]:offsets[k + 1]].nonzero().reshape(-1)  # not of a token that never occurs
        if len(alive):
            rows.append(int(offsets[k] + alive[torch.randint(len(alive), (1,), generator=generator)]))
    G_rows = []
    for row in rows:
        k = int(np.searchsorted(offsets, row, "right")) - 1
        tensor, transposed = order[k]
        direction = torch.zeros(tensor.numel(), dtype=torch.float64)
        direction[row - offsets[k]] = 1
        direction = direction.reshape(tensor.shape[::-1]).T if transposed else direction.reshape(tensor.shape)
        compute = lambda v: torch.func.functional_call(module, {sources[k]: v}, (inputs,))
        z, change = torch.func.jvp(compute, (tensor.detach(),), (direction.contiguous(),))
        bent = torch.func.jvp(torch.func.grad(loss), (z.detach(),), (change.detach(),))[1]
        z = module(inputs)
        G_rows.append(flat(torch.autograd.grad(z, [v for v, _ in order], bent)).numpy())

    for row, G_row in zip(rows, G_rows):  # two ways to the same number
        off = abs(G_row[row] - diagonal[row].item())
        assert off <= 1e-10 * float(diagonal.max()), (row, G_row[row], diagonal[row])
    return {
        "loss": value.detach().reshape(1).numpy(), "outputs": outputs.detach().numpy(),
        "gradient": gradient.numpy(), "G_diagonal": diagonal.numpy(), "rows": np.array(rows),
        "G_rows": np.stack(G_rows),
    }


def single(module, parameters, inputs, targets, class_axis, gradient):
    """How far PyTorch's own single precision is from `gradient`, relative to its greatest entry: what a network
    whose activations nearly cancel allows."""
    module = copy.deepcopy(module).float()
    named = dict(module.named_parameters())
    order = [(named[source], transposed) for _, _, source, transposed in parameters]
    z = module(inputs if inputs.dtype == torch.int64 else inputs.float())
    parts = torch.autograd.grad(F.cross_entropy(z.movedim(class_axis, 1), targets), [v for v, _ in order])
    own = torch.cat([(g.T if t else g).reshape(-1) for g, (_, t) in zip(parts, order)]).double().numpy()
    return float(np.abs(own - gradient).max() / np.abs(gradient).max())


def make(name, out):
    begun = time.time()
    maker, shape, samples, count = CASES[name]
    torch.manual_seed(2026)
    module = settled(maker(), shape)
    generator = torch.Generator().manual_seed(3)
    draw = lambda n, low=0, high=count or 10: torch.randint(low, high, n, generator=generator)
    if count:
        inputs = draw((samples, *shape), 1)
        if name == "text":
            for k in range(samples):
                inputs[k, shape[0] - 2 * k:] = 0
    else:
        inputs = torch.randn(samples, *shape, generator=generator)
    class_axis = -1 if name == "gpt" else 1
    targets = draw((samples, *shape)) if name == "gpt" else draw((samples,), 0, 4 if name == "text" else 10)
    path = out / f"{name}.onnx"
    model = export(module, inputs[:2], path)
    parameters = file_parameters(model, module)
    exported = time.time()

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    run = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]
    with sdpa_kernel(SDPBackend.MATH):  # the others have no forward derivative
        values = inputs if count else inputs.double()
        arrays = reference(module, parameters, values, targets, class_axis, generator)
    off = np.abs(run - arrays["outputs"]).max() / np.abs(arrays["outputs"]).max()
    np.save(out / f"{name}.inputs.npy", inputs.numpy())
    np.save(out / f"{name}.targets.npy", targets.numpy())
    np.savez(out / f"{name}.npz", **arrays)
    p = len(arrays["gradient"])
    sizes = {i.name: list(i.dims) for i in model.graph.initializer}
    print(f"{name}: p = {p}, outputs up to {np.abs(arrays['outputs']).max():.1f}, ONNX Runtime off by {off:.0e}, "
          f"export {exported - begun:.0f} s, reference {time.time() - exported:.0f} s, "
          f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB", flush=True)
    kind = double.tolerance(model, ["x"], (values[:1],), torch.tensor(arrays["outputs"][:1]))
    assert off < 1e-3 and kind == "exact", (name, kind)
    return {
        "name": name, "model": path.name, "inputs": f"{name}.inputs.npy", "targets": f"{name}.targets.npy",
        "loss": "cross_entropy", "reduction": "mean", "class_axis": class_axis, "p": p,
        "parameters": [{"name": n, "layer": layer, "shape": sizes[n]} for n, layer, _, _ in parameters],
        "data": f"{name}.npz",
        "single": single(module, parameters, inputs, targets, class_axis, arrays["gradient"]),
    }


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    logging.disable(logging.ERROR)
    onnxruntime.set_default_logger_severity(4)
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    index = out / "index.json"
    for name in sys.argv[2:] or CASES:
        case = make(name, out)
        kept = json.loads(index.read_text())["cases"] if index.exists() else []
        cases = {c["name"]: c for c in [*kept, case]}
        index.write_text(json.dumps({"cases": [cases[n] for n in CASES if n in cases]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
