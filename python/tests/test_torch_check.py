"""A network that does not compute what its module computes is refused, with the difference."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import hessblock as hb
from hessblock._torch import TorchFrontend

X = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
Y = torch.randint(0, 3, (20,), generator=torch.Generator().manual_seed(2))


class Cut(nn.Module):
    """A module that cuts off a gradient, which ONNX cannot express."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.first(x))
        return self.last(h * h.detach())


def problem(module: nn.Module, loss: Any = "cross-entropy", **options: Any) -> hb.Problem:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return hb.Problem(module, loss, (X, Y), device="cpu", **options)


def test_a_gradient_that_is_cut_off_is_found() -> None:
    torch.manual_seed(0)
    pattern = r"gradient in first\.weight, first\.bias differs by .*detach at .*test_torch_check.py:\d+.*check=False"
    with pytest.raises(hb.CheckError, match=pattern):
        problem(Cut())
    assert problem(Cut(), check=False).size == 35


def test_other_outputs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    arrays = TorchFrontend.arrays
    monkeypatch.setattr(TorchFrontend, "arrays", lambda self: [(name, 1.1 * array) for name, array in arrays(self)])
    with pytest.raises(hb.CheckError, match=r"Sequential differs from the module: the outputs differ by 0\.\d+ of their size"):
        problem(module)


def test_another_loss_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Linear(4, 3))
    found = TorchFrontend.loss

    def other(self: TorchFrontend, loss: Any) -> Any:
        found(self, loss)
        self._loss.taken = hb.Loss.cross_entropy("sum")
        return self._loss.taken

    monkeypatch.setattr(TorchFrontend, "loss", other)
    with pytest.raises(hb.CheckError, match=r"the loss \([\d.]+, and [\d.]+ of the module\) differs by 7"):
        problem(module)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("samples", [1, 20])
def test_networks_that_agree_pass(dtype: str, samples: int) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
    ).eval()
    for loss in ("cross-entropy", hb.Loss.cross_entropy(), lambda z, y: nn.functional.cross_entropy(z, y) ** 1):
        hb.Problem(module, loss, (X[:samples], Y[:samples]), device="cpu", dtype=dtype)


def test_a_trained_module_passes() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    optimizer = torch.optim.LBFGS(module.parameters(), max_iter=300)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(X[:8]), Y[:8]) + 1e-3 * sum(p.pow(2).sum() for p in module.parameters())
        loss.backward()
        return loss

    optimizer.step(step)
    problem(module)


def test_the_row_of_padding_is_left_out_with_a_note() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(5, 4, padding_idx=0), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.words(x).sum(1))

    tokens = torch.randint(0, 5, (20, 6), generator=torch.Generator().manual_seed(3))
    with pytest.warns(UserWarning, match=r"row 0 of words\.weight is that of padding_idx"):
        hb.Problem(Bag(), "cross-entropy", (tokens, Y), device="cpu")


def test_a_half_module_passes() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(torch.bfloat16)
    with pytest.warns(UserWarning, match="bfloat16 weights of Sequential are converted to float32"):
        hb.Problem(module, nn.CrossEntropyLoss(), (X, Y), device="cpu")


def test_a_module_too_large_for_a_copy_is_compared_in_its_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hessblock._torch_check.COPY", 10)
    torch.manual_seed(0)
    with pytest.raises(hb.CheckError, match="gradient in"):
        problem(Cut())
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    for dtype in (torch.float32, torch.bfloat16):
        problem(module.to(dtype))
