"""Blocks, diagonals, products and traces of modules are those of PyTorch in double precision."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_networks import CASES, Batch, dictionary
from torch_reference import Reference, close, reference, settled

import hessblock as hb


def problem(module: nn.Module, loss: Any, data: Any, **options: Any) -> hb.Problem:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # notes of tied weights and padding rows
        return hb.Problem(module, loss, data, device="cpu", dtype="float64", **options)


def compare(p: hb.Problem, wanted: Reference, rows: str, columns: str, tolerance: float = 1e-9) -> None:
    """Compares all that the library computes of a problem with the reference."""
    assert [(each.name, each.range) for each in p.parameters] == list(wanted.ranges.items())
    assert p.loss_value() == pytest.approx(wanted.loss, rel=1e-9)
    close(p.outputs().reshape(-1), wanted.outputs.reshape(-1), tolerance)
    close(p.gradient(), wanted.gradient, tolerance)
    vector = np.random.default_rng(0).standard_normal(p.size)
    for operator, matrix in ((hb.ggn(p), wanted.ggn), (hb.hessian(p), wanted.hessian)):
        here, there = wanted.of(rows), wanted.of(columns)
        close(np.asarray(operator.block(rows)), matrix[np.ix_(here, here)], tolerance)
        close(np.asarray(operator.block(rows, columns)), matrix[np.ix_(here, there)], tolerance)
        close(np.asarray(operator.diagonal()), np.diag(matrix), tolerance)
        close(operator @ vector, matrix @ vector, tolerance)
        assert operator.trace() == pytest.approx(np.trace(matrix), rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_matrices_of_networks_are_those_of_pytorch(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(2)
    module, inputs, targets = settled(case.make()), case.inputs(), case.targets()
    compare(problem(module, nn.CrossEntropyLoss(), (inputs, targets)), reference(module, inputs, targets, F.cross_entropy), *case.layers)


def test_a_module_with_a_dictionary_as_input() -> None:
    torch.manual_seed(2)
    module, inputs, targets = dictionary()
    wanted = reference(settled(module), (inputs,), targets, F.cross_entropy)
    compare(problem(module, "cross-entropy", (inputs, targets)), wanted, "words", "numbers")


def test_a_module_with_several_arguments_by_name() -> None:
    class Several(Batch):
        def forward(self, words: torch.Tensor, scale: float = 2.0, *, numbers: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return scale * super().forward({"words": words, "numbers": numbers})

    torch.manual_seed(2)
    _, inputs, targets = dictionary()
    module = settled(Several())
    wanted = reference(module, inputs, targets, F.cross_entropy)
    turned = {"numbers": inputs["numbers"], "words": inputs["words"]}
    compare(problem(module, "cross-entropy", (turned, targets)), wanted, "words", "numbers")


GENERATOR = torch.Generator().manual_seed(9)
REAL = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.tensor([1, 3, 0])
SPATIAL = torch.randint(0, 4, (3, 2, 2), generator=GENERATOR)
SPATIAL[0, 0, 0] = 2


def huber(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A loss that the library does not know: its Hessian is not diagonal, and the sum over samples."""
    return (F.huber_loss(outputs, targets, reduction="none", delta=0.3).sum(1) + outputs.prod(1) ** 2).sum()


LOSSES: dict[str, tuple[Any, Any, torch.Tensor]] = {
    "cross-entropy with weights, smoothing and an index to ignore": (
        nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 1.0, 0.1]), ignore_index=2, label_smoothing=0.2),
        nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 1.0, 0.1]).double(), ignore_index=2, label_smoothing=0.2),
        torch.tensor([1, 2, 0]),
    ),
    "mse as a sum": (nn.MSELoss(reduction="sum"), nn.MSELoss(reduction="sum"), REAL),
    "bce with positive weights": (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([0.5, 2.0, 1.0, 0.1])),
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([0.5, 2.0, 1.0, 0.1]).double()),
        REAL.sigmoid(),
    ),
    "a callable": (huber, huber, REAL),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_with_options(name: str) -> None:
    loss, exact, targets = LOSSES[name]
    torch.manual_seed(2)
    module = settled(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)))
    inputs = torch.randn(3, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    compare(problem(module, loss, (inputs, targets)), reference(module, inputs, targets, exact), "0", "2", 1e-7)


def test_update_takes_the_weights_as_they_are_now() -> None:
    torch.manual_seed(2)
    module, inputs = settled(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))), REAL[:, [0, 1, 2, 3, 0]]
    p = problem(module, huber, (inputs, REAL))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    p.update()
    compare(p, reference(module, inputs, REAL, huber), "0", "2", 1e-7)


def test_single_precision_is_close() -> None:
    torch.manual_seed(2)
    module, inputs, targets = settled(CASES["lenet5"].make()), CASES["lenet5"].inputs(), CASES["lenet5"].targets()
    wanted = reference(module, inputs, targets, F.cross_entropy)
    p = hb.Problem(module.float(), nn.CrossEntropyLoss(), (inputs.float(), targets), device="cpu")
    assert p.dtype == np.float32
    close(np.asarray(hb.ggn(p).block("7")), wanted.ggn[np.ix_(wanted.of("7"), wanted.of("7"))], 1e-4)
