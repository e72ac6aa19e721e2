"""Hessians of a neural network's loss, block by block, on any GPU and on the CPU.

    import torch, hessblock as hb
    p = hb.Problem(model, torch.nn.CrossEntropyLoss(), loader)
    G = hb.ggn(p)                      # hb.hessian(p), hb.residual(p), hb.fisher(p), hb.empirical_fisher(p)
    G @ v                              # an array, a tensor or a dictionary of parameters: the same back
    B = G.block("fc1", "fc2")          # nothing is computed yet
    np.asarray(B); B.to_zarr("b.zarr")
"""

from ._block import Block
from ._core import Loss, __version__
from ._devices import backends, bench, devices, selftest
from ._errors import (
    BudgetError,
    CheckError,
    DataError,
    DeviceError,
    DiskError,
    Error,
    FileError,
    InvalidValueError,
    ModelError,
    NotFiniteError,
    OtherRunError,
    RequestError,
    ShapeError,
    UnsupportedError,
)
from ._matrices import empirical_fisher, fisher, ggn, hessian, residual
from ._operator import Operator
from ._parallel import shards
from ._parts import Parts
from ._problem import Problem
from ._results import Results, merge, open, verify
from ._show import Shown, show
from ._study import ErrorStudy, error
from ._verdict import Verdict

__all__ = [
    "Block",
    "BudgetError",
    "CheckError",
    "DataError",
    "DeviceError",
    "DiskError",
    "Error",
    "ErrorStudy",
    "FileError",
    "InvalidValueError",
    "Loss",
    "ModelError",
    "NotFiniteError",
    "Operator",
    "OtherRunError",
    "Parts",
    "Problem",
    "RequestError",
    "Results",
    "ShapeError",
    "Shown",
    "UnsupportedError",
    "Verdict",
    "__version__",
    "backends",
    "bench",
    "devices",
    "empirical_fisher",
    "error",
    "fisher",
    "ggn",
    "hessian",
    "merge",
    "open",
    "residual",
    "selftest",
    "shards",
    "show",
    "verify",
]
