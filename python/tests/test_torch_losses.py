"""Losses of PyTorch in all spellings, and callables through their derivatives."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_reference import close, settled

import hessblock as hb
from hessblock import _core
from hessblock._torch_callable import TorchLoss
from hessblock._torch_loss import Loss

N, C = 6, 4
DRAW = torch.Generator().manual_seed(4)
Z = torch.randn(N, C, generator=DRAW, dtype=torch.float64)
REAL = torch.rand(N, C, generator=DRAW, dtype=torch.float64)
LABELS = torch.tensor([0, 3, 1, 2, 2, 1])
PROBABILITIES = torch.rand(N, C, generator=DRAW, dtype=torch.float64).softmax(1)
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.1])


def linear() -> nn.Module:
    """A module whose outputs are its inputs times a matrix."""
    torch.manual_seed(1)
    return settled(nn.Linear(3, C))


X = torch.randn(N, 3, generator=DRAW, dtype=torch.float64)


def problem(loss: Any, targets: Any, module: nn.Module | None = None, **options: Any) -> hb.Problem:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return hb.Problem(module or linear(), loss, (X, targets) if targets is not None else X, device="cpu", dtype="float64", **options)


def taken(loss: Any, shape: tuple[int, ...] = (C,), **options: Any) -> Any:
    return Loss(loss, shape, **options).taken


OWN: dict[str, tuple[Any, Any, Any]] = {
    "module": (nn.CrossEntropyLoss(), F.cross_entropy, LABELS),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), partial(F.cross_entropy, reduction="sum"), LABELS),
    "weights": (nn.CrossEntropyLoss(WEIGHT), partial(F.cross_entropy, weight=WEIGHT.double()), LABELS),
    "ignored": (nn.CrossEntropyLoss(ignore_index=2), partial(F.cross_entropy, ignore_index=2), LABELS),
    "smoothing": (nn.CrossEntropyLoss(label_smoothing=0.3), partial(F.cross_entropy, label_smoothing=0.3), LABELS),
    "smoothing and weights": (
        nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.3), partial(F.cross_entropy, weight=WEIGHT.double(), label_smoothing=0.3), LABELS,
    ),
    "probabilities": (
        nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1), partial(F.cross_entropy, weight=WEIGHT.double(), label_smoothing=0.1),
        PROBABILITIES,
    ),
    "function": (F.cross_entropy, F.cross_entropy, LABELS),
    "partial": (partial(F.cross_entropy, label_smoothing=0.2), partial(F.cross_entropy, label_smoothing=0.2), LABELS),
    "name": ("cross-entropy", F.cross_entropy, LABELS),
    "mse": (nn.MSELoss(), F.mse_loss, REAL),
    "mse by name": ("mse", F.mse_loss, REAL),
    "mse as a sum": (partial(F.mse_loss, reduction="sum"), partial(F.mse_loss, reduction="sum"), REAL),
    "bce": (nn.BCEWithLogitsLoss(), F.binary_cross_entropy_with_logits, REAL),
    "bce, one positive weight": (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0])),
        partial(F.binary_cross_entropy_with_logits, pos_weight=torch.tensor([3.0]).double()), REAL,
    ),
    "bce, positive weights": (
        partial(F.binary_cross_entropy_with_logits, pos_weight=WEIGHT, reduction="sum"),
        partial(F.binary_cross_entropy_with_logits, pos_weight=WEIGHT.double(), reduction="sum"), REAL,
    ),
}  # fmt: skip


def of_outputs(loss: Any, targets: Any, module: nn.Module, x: torch.Tensor = X) -> tuple[float, Any, Any]:
    """Loss, gradient and Hessian in the parameters of a module that is linear in them."""
    named = dict(module.named_parameters())
    sizes = [tensor.numel() for tensor in named.values()]
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in named.values()])

    def whole(values: torch.Tensor) -> torch.Tensor:
        parts = {name: part.view(named[name].shape) for name, part in zip(named, values.split(sizes), strict=True)}
        z = torch.func.functional_call(module, parts, (x,))
        return loss(z) if targets is None else loss(z, targets)

    return (
        float(whole(flat)),
        torch.func.grad(whole)(flat).detach().numpy(),
        torch.autograd.functional.hessian(whole, flat).numpy(),
    )


def compare(p: hb.Problem, exact: Any, targets: Any, module: nn.Module | None = None, tolerance: float = 1e-8) -> None:
    value, gradient, hessian = of_outputs(exact, targets, module or linear())
    assert p.loss_value() == pytest.approx(value, rel=tolerance)
    close(p.gradient(), gradient, tolerance)
    close(np.asarray(hb.ggn(p).full()), hessian, tolerance)


@pytest.mark.parametrize("name", OWN)
def test_losses_that_the_library_has_are_its_own_and_agree(name: str) -> None:
    loss, exact, targets = OWN[name]
    p = problem(loss, targets)
    assert not p.has_callable_loss
    compare(p, exact, targets)


@pytest.mark.filterwarnings("ignore:.*size_average.*")
def test_deprecated_reductions_are_read() -> None:
    assert taken(nn.MSELoss(size_average=False)).name == "mse(sum)"
    assert taken(partial(F.mse_loss, size_average=False)).name == "mse(sum)"
    assert taken(partial(F.cross_entropy, reduce=True)).name == "cross-entropy(mean)"


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(reduction="none"), partial(F.mse_loss, reduction="none"), partial(F.mse_loss, reduce=False)]
)
def test_a_loss_for_every_sample_is_refused(loss: Any) -> None:
    with pytest.raises(hb.ModelError, match="take reduction='mean' or 'sum'"):
        taken(loss)


def test_positive_weights_are_broadcast_as_in_pytorch() -> None:
    torch.manual_seed(1)

    class Positions(nn.Module):
        """[N, 4, 2] with the classes on the axis `axis`."""

        def __init__(self, axis: int) -> None:
            super().__init__()
            self.layer, self.axis = nn.Linear(3, 8), axis

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x).view(x.shape[0], 4, 2)
            return y if self.axis == 1 else y.transpose(1, 2)

    for axis, weight in ((1, WEIGHT.reshape(4, 1)), (2, WEIGHT), (2, torch.rand(2, 4)), (1, torch.tensor([[[2.0]]]))):
        module = settled(Positions(axis))
        targets = torch.rand(N, *((4, 2) if axis == 1 else (2, 4)), generator=DRAW, dtype=torch.float64)
        exact = partial(F.binary_cross_entropy_with_logits, pos_weight=weight.double())
        p = problem(nn.BCEWithLogitsLoss(pos_weight=weight), targets, module)
        assert not p.has_callable_loss
        compare(p, exact, targets, module, 1e-6)
    with pytest.raises(hb.ModelError, match=r"pos_weight of shape \[3\] does not fit"):
        taken(nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)))


def coupled(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean over samples of a loss whose Hessian is full and indefinite."""
    return ((outputs - targets).pow(4).sum(1) + outputs.prod(1)).mean()


CALLABLES: dict[str, tuple[Any, Any, Any]] = {
    "mean": (coupled, coupled, REAL),
    "sum": (lambda z, y: N * coupled(z, y) if len(z) == N else len(z) * coupled(z, y), lambda z, y: N * coupled(z, y), REAL),
    "bce with weights": (
        nn.BCEWithLogitsLoss(weight=WEIGHT), partial(F.binary_cross_entropy_with_logits, weight=WEIGHT.double()), REAL,
    ),
    "a module": (nn.SmoothL1Loss(beta=0.5), partial(F.smooth_l1_loss, beta=0.5), REAL),
    "labels": (lambda z, y: F.nll_loss(z.log_softmax(1), y), F.cross_entropy, LABELS),
    "without targets": (lambda z: z.pow(3).sum(), lambda z: z.pow(3).sum(), None),
    "a condition on values": (
        lambda z, y: sum(((a - b) ** 2).sum() if float(b[0]) > 0.5 else (a**4).sum() for a, b in zip(z, y, strict=True)),
        lambda z, y: sum(((a - b) ** 2).sum() if float(b[0]) > 0.5 else (a**4).sum() for a, b in zip(z, y, strict=True)), REAL,
    ),
    "linear in the outputs": (lambda z, y: (z * y).mean(), lambda z, y: (z * y).mean(), REAL),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLABLES)
def test_callables_are_taken_by_their_derivatives(name: str) -> None:
    loss, exact, targets = CALLABLES[name]
    p = problem(loss, targets)
    assert p.has_callable_loss
    compare(p, exact, targets)


def test_a_callable_of_single_precision_is_called_in_it() -> None:
    matrix = torch.randn(C, C, generator=DRAW)
    p = problem(lambda z, y: ((z - y) @ matrix).pow(2).sum(), REAL, check=False)
    exact = matrix.double()
    compare(p, lambda z, y: ((z - y) @ exact).pow(2).sum(), REAL, tolerance=1e-5)


def test_a_subclass_with_its_own_forward_is_a_callable() -> None:
    class Twice(nn.CrossEntropyLoss):
        def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input, target)

    p = problem(Twice(), LABELS)
    assert p.has_callable_loss
    compare(p, lambda z, y: 2 * F.cross_entropy(z, y), LABELS)


def test_a_loss_that_is_neither_mean_nor_sum_is_refused_by_name_unless_told() -> None:
    def contrast(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs - outputs.mean(0)).pow(2).sum() + (outputs - targets).pow(2).sum()

    with pytest.raises(hb.ModelError, match=r"contrast is neither the mean nor the sum.*reduction='mean'"):
        problem(contrast, REAL)
    assert problem(contrast, REAL, reduction="sum", check=False).has_callable_loss
    with pytest.raises(hb.ModelError, match="'median'"):
        problem(contrast, REAL, reduction="median")


def test_a_loss_without_second_derivatives_is_refused() -> None:
    with pytest.raises(hb.ModelError, match="no second derivative of the loss MultiMarginLoss"):
        problem(nn.MultiMarginLoss(p=2), LABELS)


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (lambda z, y: (z - y).pow(2), r"a tensor of shape \[6, 4\]: it must return one number"),
        (lambda z, y: float((z - y).pow(2).sum()), "returns float"),
        (lambda z, y: (z - y).detach().pow(2).sum(), "without a gradient"),
        (lambda z, y: (z * torch.rand_like(z)).sum(), "must not draw at random"),
        (lambda z, y: (z @ y).sum(), "fails on outputs of shape .6, 4. and targets of float64"),
        (object(), "a loss of type object"),
        ("hinge", "there is no loss 'hinge'"),
    ],
)
def test_losses_that_cannot_be_taken_say_why(loss: Any, match: str) -> None:
    with pytest.raises(hb.ModelError, match=match):
        problem(loss, REAL)


def test_large_hessians_lie_in_a_file_and_are_the_same() -> None:
    z, y = Z.numpy(), REAL.numpy()
    memory = TorchLoss(coupled, "coupled", (C,)).derivatives(z, y)
    spooled = TorchLoss(coupled, "coupled", (C,), limit=100).derivatives(z, y)
    assert isinstance(spooled[2], np.memmap) and not isinstance(memory[2], np.memmap)
    for a, b in zip(memory, spooled, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pieces_of_samples_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TorchLoss(coupled, "coupled", (C,)).derivatives(Z.numpy(), REAL.numpy())
    monkeypatch.setattr("hessblock._callable.CHUNK", 4 * C * C * 8)
    for a, b in zip(whole, TorchLoss(coupled, "coupled", (C,)).derivatives(Z.numpy(), REAL.numpy()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_outputs_that_share_the_axis_of_samples_are_a_sample_of_rows() -> None:
    class Rows(nn.Module):
        """[N·2, 4]"""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).view(-1, 4)

    torch.manual_seed(1)
    module, labels = settled(Rows()), torch.randint(0, 4, (N, 2), generator=DRAW)

    def loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(z, y.reshape(-1)) ** 1

    p = problem(loss, labels, module)
    assert p.has_callable_loss
    compare(p, loss, labels, module)


def test_a_callable_needs_the_samples_first() -> None:
    class Turned(nn.Module):
        """[4, N]"""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).T

    module = Turned().double()
    with pytest.raises(hb.ModelError, match="the samples on axis 1.*transpose"):
        problem(lambda z, y: (z - y.T).pow(2).sum(), REAL, module)


@pytest.mark.parametrize(
    ("loss", "targets", "exact"),
    [
        ("cross-entropy", LABELS.int(), LABELS), ("cross-entropy", LABELS.to(torch.uint8), LABELS),
        ("cross-entropy", LABELS[:, None], LABELS),
        ("mse", LABELS[:, None].expand(N, C), LABELS[:, None].expand(N, C).double()), ("bce", REAL > 0.5, (REAL > 0.5).double()),
        (nn.BCEWithLogitsLoss(WEIGHT), REAL > 0.5, (REAL > 0.5).double()),
    ],
)  # fmt: skip
def test_targets_may_have_other_number_types_and_axes_of_one(loss: Any, targets: Any, exact: Any) -> None:
    function = {"cross-entropy": F.cross_entropy, "mse": F.mse_loss, "bce": F.binary_cross_entropy_with_logits}.get(str(loss))
    compare(problem(loss, targets), function or nn.BCEWithLogitsLoss(WEIGHT.double()), exact)


def test_named_loss_of_one_output_takes_targets_without_its_axis() -> None:
    torch.manual_seed(1)
    module, targets = settled(nn.Linear(3, 1)), REAL[:, 0]
    compare(problem("mse", targets, module), F.mse_loss, targets[:, None], module)


def test_losses_of_the_library_pass_as_they_are() -> None:
    own = _core.Loss.cross_entropy("sum", label_smoothing=0.1)
    p = problem(own, LABELS)
    compare(p, partial(F.cross_entropy, reduction="sum", label_smoothing=0.1), LABELS)


def test_a_loss_that_is_a_mean_only_over_the_first_samples_is_refused() -> None:
    z = torch.randn(40, C, generator=DRAW, dtype=torch.float64)
    classes = torch.arange(40) // 10
    loss = TorchLoss(lambda z, y: F.cross_entropy(z, y, weight=WEIGHT.double()), "weighted", (C,))
    with pytest.raises(hb.ModelError, match=r"weighted is neither the mean nor the sum over samples: 40 samples"):
        loss.derivatives(z.numpy(), classes.numpy())
    told = TorchLoss(lambda z, y: F.cross_entropy(z, y, weight=WEIGHT.double()), "weighted", (C,), reduction="mean")
    told.derivatives(z.numpy(), classes.numpy())


def test_a_loss_of_too_many_samples_for_one_batch_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hessblock._callable.WHOLE", 10)
    with pytest.warns(UserWarning, match=r"loss coupled is the mean over samples was found out from the first 8 samples alone"):
        hb.Problem(linear(), coupled, (X, REAL), device="cpu", dtype="float64", check=False)


@pytest.mark.parametrize("samples", [1, (3, 4), (2, 6)])
def test_a_mean_over_a_range_of_samples_is_that_of_the_module(samples: Any) -> None:
    start, stop = (0, samples) if isinstance(samples, int) else samples
    p = problem(coupled, REAL, samples=samples)
    value = of_outputs(coupled, REAL[start:stop], linear(), X[start:stop])[0]
    assert p.loss_value() == pytest.approx(value, rel=1e-8)


def test_one_sample_does_not_decide_what_a_loss_is() -> None:
    loss = TorchLoss(coupled, "coupled", (C,))
    loss.derivatives(Z.numpy()[:1], REAL.numpy()[:1])
    assert loss.reduction is None
    loss.derivatives(Z.numpy(), REAL.numpy())
    assert loss.reduction == "mean"


def test_a_hessian_that_is_not_finite_is_said_to_be_that_of_the_loss() -> None:
    def root(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return ((outputs - targets).abs() ** 1.5).sum()

    module = linear()
    targets = REAL.clone()
    targets[4] = module(X)[4].detach()
    with pytest.raises(hb.InvalidValueError, match="the loss root has a (gradient|Hessian) that is not finite at sample 4"):
        problem(root, targets, module, check=False)


def test_a_loss_without_memory_is_not_tried_a_sample_at_a_time() -> None:
    calls = []

    def large(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(len(outputs))
        if torch._C._functorch.is_batchedtensor(outputs) or torch._C._functorch.is_gradtrackingtensor(outputs):
            raise MemoryError("for the test")
        return coupled(outputs, targets)

    with pytest.raises(MemoryError, match="for the test"):
        TorchLoss(large, "large", (C,)).derivatives(Z.numpy(), REAL.numpy())
