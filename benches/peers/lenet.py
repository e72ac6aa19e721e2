"""The LeNet-5 of these scripts in PyTorch: the network, its products, and its derivatives written out by hand."""

import torch
import torch.nn as nn
import torch.nn.functional as F


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(256, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))


def products(model, x, y, v):
    """row → way → function that gives the gradient or product as a list of tensors."""
    names, parameters = zip(*model.named_parameters())
    values = tuple(p.detach() for p in parameters)
    network = lambda *w: torch.func.functional_call(model, dict(zip(names, w)), x)
    loss = lambda *w: F.cross_entropy(network(*w), y)
    everywhere = tuple(range(len(values)))

    def ggn_forward():  # v → Jv → HJv → JᵀHJv
        z, tangent = torch.func.jvp(network, values, v)
        gradient = torch.func.grad(lambda z: F.cross_entropy(z, y))
        return torch.func.vjp(network, *values)[1](torch.func.jvp(gradient, (z,), (tangent,))[1])

    def ggn_graph():
        z = model(x)
        first, = torch.autograd.grad(F.cross_entropy(z, y), z, create_graph=True)
        # Jv is the derivative in u of (Jᵀu)·v.
        u = torch.zeros_like(z, requires_grad=True)
        back = torch.autograd.grad(z, parameters, u, create_graph=True)
        return z, first, u, back

    def ggn_times(z, first, u, back, keep=False):
        tangent, = torch.autograd.grad(back, u, v, retain_graph=keep)
        curved, = torch.autograd.grad(first, z, tangent, retain_graph=True)
        return torch.autograd.grad(z, parameters, curved, retain_graph=keep)

    slopes = lambda: torch.autograd.grad(F.cross_entropy(model(x), y), parameters, create_graph=True)
    hessian_times = lambda g, keep=False: torch.autograd.grad(g, parameters, v, retain_graph=keep)
    kept, kept_slopes = ggn_graph(), slopes()
    return {
        "gradient": {"backward": lambda: torch.autograd.grad(F.cross_entropy(model(x), y), parameters)},
        "ggn_product": {"jvp, vjp": ggn_forward, "double backward": lambda: ggn_times(*ggn_graph())},
        "hessian_product": {
            "jvp of grad": lambda: torch.func.jvp(torch.func.grad(loss, everywhere), values, v)[1],
            "double backward": lambda: hessian_times(slopes())},
        "ggn_product_again": {"double backward": lambda: ggn_times(*kept, keep=True)},
        "hessian_product_again": {"double backward": lambda: hessian_times(kept_slopes, keep=True)},
    }


def unpooled(delta, tanh):
    """Δ of an average pool's and a tanh's input, [n, R, c, h, w], from that of the pool's output."""
    n, r, c, h, w = delta.shape
    delta = delta[:, :, :, :, None, :, None].expand(n, r, c, h, 2, w, 2).reshape(n, r, c, 2 * h, 2 * w)
    return delta * ((1 - tanh**2) / 4)[:, None]


def pieces(model, x, layers):
    """(Δ, a) of layers (0 to 4), the derivatives written out: [n, R, o] and [n, i + 1], of convolutions
    [n, R, o, t] and [n, k, t]. Goes back no further than it must."""
    w, n, found = [t.detach() for t in model.parameters()], len(x), {}
    t1 = torch.tanh(F.conv2d(x, w[0], w[1]))
    h1 = F.avg_pool2d(t1, 2)
    t2 = torch.tanh(F.conv2d(h1, w[2], w[3]))
    h2 = F.avg_pool2d(t2, 2).flatten(1)
    h3 = torch.tanh(F.linear(h2, w[4], w[5]))
    h4 = torch.tanh(F.linear(h3, w[6], w[7]))
    p = torch.softmax(F.linear(h4, w[8], w[9]), 1)
    s = p.sqrt()
    delta = (torch.diag_embed(s) - s[:, :, None] * p[:, None, :]) / n**0.5  # [n, R, outputs]
    for layer, inputs in ((4, h4), (3, h3), (2, h2)):
        found[layer] = delta, F.pad(inputs, (0, 1), value=1.0) if layer in layers else None
        if layer == min(layers):
            return [found[k] for k in layers]
        delta = delta @ w[2 * layer]
        if layer > 2:
            delta = delta * (1 - inputs**2)[:, None]
    delta = unpooled(delta.reshape(n, 10, 16, 4, 4), t2)
    found[1] = delta.reshape(n, 10, 16, 64), F.unfold(h1, 5)
    if 0 in layers:
        delta = F.conv_transpose2d(delta.reshape(10 * n, 16, 8, 8), w[2]).reshape(n, 10, 6, 12, 12)
        found[0] = unpooled(delta, t1).reshape(n, 10, 6, 576), F.unfold(x, 5)
    return [found[k] for k in layers]


def rows(pieces):
    """V, [samples·R, entries], from Δ and a: weights and biases in the order of the parameters."""
    columns = []
    for delta, a in pieces:
        n, r = delta.shape[:2]
        if delta.ndim == 4:
            o, k = delta.shape[2], a.shape[1]
            weight = delta.reshape(n, r * o, -1) @ a.transpose(1, 2)
            columns += [weight.reshape(n * r, o * k), delta.sum(-1).reshape(n * r, o)]
        else:
            weight = delta[..., None] * a[:, None, None, :-1]
            columns += [weight.reshape(n * r, -1), delta.reshape(n * r, -1)]
    return torch.cat(columns, 1)


def squares(pieces):
    """The diagonal from Δ and a, dense ones not multiplied out."""
    columns = []
    for delta, a in pieces:
        if delta.ndim == 4:
            v = rows([(delta, a)])
            columns += [(v**2).sum(0)]
        else:
            both = (delta**2).sum(1).T @ a**2
            columns += [both[:, :-1].reshape(-1), both[:, -1]]
    return torch.cat(columns)
