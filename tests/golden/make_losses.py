"""Reference values for the losses: value, gradient and Hessian from PyTorch in double precision.

Run: python make_losses.py > losses.json   (PyTorch 2.x)
"""

import json

import torch
import torch.nn.functional as F

torch.manual_seed(7)
SAMPLES, CLASSES, POSITIONS = 4, 3, 2


def flat(tensor):
    return tensor.detach().reshape(-1).tolist()


def case(loss, outputs, targets, function, **options):
    """One record; the Hessian is that of each sample, [samples, outputs, outputs]."""
    outputs = outputs.clone().requires_grad_()
    value = function(outputs)
    (gradient,) = torch.autograd.grad(value, outputs)
    full = torch.autograd.functional.hessian(function, outputs)
    each = outputs[0].numel()
    full = full.reshape(SAMPLES, each, SAMPLES, each)
    return {
        "loss": loss,
        **options,
        "shape": list(outputs.shape[1:]),
        "outputs": flat(outputs),
        "targets": targets.reshape(-1).tolist(),
        "target_shape": list(targets.shape[1:]),
        "value": value.item(),
        "gradient": flat(gradient),
        "hessian": [flat(full[n, :, n, :]) for n in range(SAMPLES)],
    }


cases = []
for shape in [(CLASSES,), (CLASSES, POSITIONS)]:
    outputs = 2 * torch.randn(SAMPLES, *shape, dtype=torch.float64)
    outputs[0] *= 40  # a confident sample: log-sum-exp must be stable
    labels = torch.randint(0, CLASSES, (SAMPLES, *shape[1:]))
    labels[1] = -100
    probabilities = torch.rand(SAMPLES, *shape, dtype=torch.float64)  # do not sum to one
    for reduction in ["mean", "sum"]:
        for weights in [None, [0.5, 2.0, 1.25]]:
            for smoothing in [0.0, 0.15]:
                w = None if weights is None else torch.tensor(weights, dtype=torch.float64)
                for targets in [labels, probabilities]:
                    cases.append(
                        case(
                            "cross-entropy", outputs, targets,
                            lambda z: F.cross_entropy(
                                z, targets, weight=w, reduction=reduction, label_smoothing=smoothing
                            ),
                            reduction=reduction, class_weights=weights, label_smoothing=smoothing,
                        )
                    )  # fmt: skip
        other = labels.clamp(min=1)
        cases.append(
            case(
                "cross-entropy", outputs, other,
                lambda z: F.cross_entropy(z, other, reduction=reduction, ignore_index=1),
                reduction=reduction, ignore_index=1,
            )
        )  # fmt: skip
        values = torch.randn(SAMPLES, *shape, dtype=torch.float64)
        cases.append(
            case(
                "squared-error", outputs, values,
                lambda z: F.mse_loss(z, values, reduction=reduction), reduction=reduction,
            )
        )  # fmt: skip
        for positive in [None, [3.0], [0.25, 1.0, 4.0]]:
            k = None if positive is None else torch.tensor(positive, dtype=torch.float64)
            if k is not None:
                k = k.reshape(-1, *[1] * (len(shape) - 1))
            soft = torch.rand(SAMPLES, *shape, dtype=torch.float64)
            for targets in [soft, soft.round()]:
                cases.append(
                    case(
                        "bce", outputs, targets,
                        lambda z: F.binary_cross_entropy_with_logits(
                            z, targets, pos_weight=k, reduction=reduction
                        ),
                        reduction=reduction, positive_weight=positive,
                    )
                )  # fmt: skip
print(json.dumps(cases))
