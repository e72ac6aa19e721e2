"""Problems that the tests share: the digits network of the repository, in single and double precision."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import hessblock as hb
import numpy as np
import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
MODEL, IMAGES, LABELS = (str(DIGITS / name) for name in ("model.onnx", "images.npy", "labels.npy"))


def extra(name: str) -> Any:
    """Imports a package that hessblock does without. Where it is missing the test is skipped.

    In the check (HESSBLOCK_REQUIRE_EXTRAS=1) such a test fails.
    """
    if os.environ.get("HESSBLOCK_REQUIRE_EXTRAS") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)


@pytest.fixture(scope="session")
def arrays():
    """Images [64, 64] and labels [64] of digits."""
    return np.load(IMAGES)[:64], np.load(LABELS)[:64]


def digits(**options):
    """The digits network over its first 64 samples, unless others are asked for."""
    data = options.pop("data", (IMAGES, LABELS))
    loss = options.pop("loss", "cross-entropy")
    return hb.Problem(MODEL, loss, data, **{"device": "cpu", "samples": 64, **options})


@pytest.fixture(scope="session")
def single():
    """In float32. Tests that change its weights make their own."""
    return digits()


@pytest.fixture(scope="session")
def double():
    """In float64."""
    return digits(dtype="float64")


@pytest.fixture
def fresh():
    """A problem of the test's own, in float64."""
    return digits(dtype="float64")


@pytest.fixture(scope="session")
def full(double):
    """G as an array, of the problem in double precision."""
    return np.array(hb.ggn(double).full())
