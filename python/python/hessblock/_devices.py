"""The devices of this machine: their list, their choice, self-tests and benchmarks."""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _core
from ._errors import RequestError
from ._progress import Progress, reporting
from ._record import Record


class Devices(list[Record]):
    """The devices of this machine. Each has `selector`, `name`, `kind`, `backend` and `driver`."""

    def to_dict(self) -> list[dict[str, Any]]:
        """Returns the devices as dictionaries."""
        return [device.to_dict() for device in self]

    def __repr__(self) -> str:
        keys = ("selector", "name", "kind", "backend", "driver")
        rows = [keys, *(tuple(str(device[key] or "") for key in keys) for device in self)]
        widths = [max(len(row[k]) for row in rows) for k in range(len(keys))]
        return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


class MachineReport(Record):
    """The report of a self-test or a benchmark. `print` gives the library's table; the values are those of its JSON."""

    def __init__(self, table: str, text: str) -> None:
        super().__init__(json.loads(text))
        self._table = table

    def __repr__(self) -> str:
        return self._table

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self._table)}</pre>"


class SelfTest(MachineReport):
    """The report of a self-test: `passed` and `failed` count cases. It is true if none failed."""

    def __bool__(self) -> bool:
        return bool(self["failed"] == 0)


def devices() -> Devices:
    """Returns the devices of this machine: the CPU and every GPU, also those that software emulates.

    `hessblock.Problem(…, device=…)` takes the selector or a part of the name.
    """
    return Devices(Record(fields) for fields in _core.adapters())


def backends() -> list[str]:
    """Returns the backends of this build, such as `vulkan`, whether or not this machine has them."""
    return _core.backends()


def selftest(device: Any = "auto", cases: str | Sequence[str] = (), *, progress: Progress = None) -> SelfTest:
    """Tests a device: every primitive, operation and contraction, and small networks, against CPU double precision.

    Args:
        device: A device, as `hessblock.Problem` takes it.
        cases: Only cases whose names contain one of these.
        progress: True for a bar, or a callable `(done, total)`.

    Returns:
        A report that is true where all cases passed. Attach its `to_dict()` to bug reports.

    Raises:
        DeviceError: There is no such device.
    """
    with reporting(progress, "self-test") as report:
        return SelfTest(*_core.selftest(device_of(device, None), _listed(cases), progress=report))


def bench(
    device: Any = "all",
    cases: str | Sequence[str] = (),
    *,
    dtype: Any = None,
    seconds: float = 0.5,
    progress: Progress = None,
) -> MachineReport:
    """Times a fixed set of cases: primitives, contractions, blocks and products of LeNet-5 and ResNet-20.

    Every case is first compared with CPU double precision, and timed only if it is right.

    Args:
        device: "all" for the CPU and every GPU, or a device as `hessblock.Problem` takes it, or a list of them.
        cases: Only these cases: a name, a part of a name or a pattern such as `"lenet5/*product"`.
        dtype: float32 (the default) or float64.
        seconds: The time for each case on each device.
        progress: True for a bar, or a callable `(done, total)`.

    Raises:
        DeviceError: There is no such device.
        RequestError: No case has such a name.
    """
    selectors = list(device) if isinstance(device, (list, tuple)) else [device]
    if selectors == ["all"]:
        software = ("cpu", "software")
        gpus = [entry["selector"] for entry in _core.adapters() if entry["kind"] not in software]
        selectors = ["cpu", *gpus]
    opened = [device_of(selector, dtype) for selector in selectors]
    with reporting(progress, "benchmark") as report:
        return MachineReport(*_core.bench(opened, _listed(cases), seconds=seconds, progress=report))


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def precision_of(dtype: Any) -> str | None:
    """Returns "f32" or "f64" for a type of NumPy, PyTorch or JAX, or its name; None for None.

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
        raise RequestError(f"unknown precision dtype={dtype!r}: give float32 or float64")
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
