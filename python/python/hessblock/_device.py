"""The choice of a device and its precision."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from . import _core
from ._errors import RequestError


def precision_of(dtype: Any) -> str | None:
    """Returns "f32" or "f64" for a type of NumPy, PyTorch or JAX, or its name; None stays None.

    Raises:
        RequestError: The type is another one.
    """
    if dtype is None:
        return None
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    if dtype in ("f32", "f64"):
        return str(dtype)
    try:
        found = {"float32": "f32", "float64": "f64"}.get(np.dtype(dtype).name)
    except TypeError:
        found = None
    if found is None:
        raise RequestError(f"dtype={dtype!r}: devices compute in float32 or float64")
    return found


def device_of(device: Any, dtype: Any, double: bool = False) -> _core.Device:
    """Opens a device.

    Args:
        device: "auto", "cpu", "gpu", "all", a part of a GPU's name, an index of a GPU, or a list of names and indices.
        dtype: float32 or float64; by default float32.
        double: Whether float64 is the default, where the device can do it.

    Raises:
        DeviceError: There is no such device.
        RequestError: float64 was asked for on a GPU.
    """
    if isinstance(device, (list, tuple)):
        selector = ",".join(str(one) for one in device)
    else:
        selector = str(device)
    precision = precision_of(dtype) or ("f64" if double and selector in ("auto", "cpu") else "f32")
    if selector.startswith(("cuda", "mps", "xpu")):
        raise RequestError(
            f"device={device!r} is a device of PyTorch: give 'gpu', a part of its name or an index of hessblock.devices()"
        )
    return _core.Device.open(selector, precision)
