"""Plans of parts, and the methods that write parts to disk."""

from __future__ import annotations

import html
import json
import os
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

from . import _core
from ._errors import RequestError
from ._progress import Progress, reporting
from ._record import Record
from ._units import format_bytes, format_seconds, plural

Path = str | os.PathLike[str]


class Plan:
    """The plan of a computation: its passes, its time and its memory. Nothing is computed for it."""

    def __init__(self, plan: _core.Plan, result: int) -> None:
        self._plan = plan
        self.bytes = result
        """The bytes of the result."""

    @property
    def host_bytes(self) -> int:
        """The most host memory that the plan counts on, beside the network and the data."""
        return self._plan.host_bytes

    @property
    def device_bytes(self) -> int:
        """The most device memory that the plan counts on; 0 on the CPU."""
        return self._plan.device_bytes

    @cached_property
    def forecast(self) -> Record:
        """The expected seconds by stage, and the likely peak of memory.

        The first forecast on a device measures its speed for some seconds, once.
        """
        return Record(self._plan.forecast())

    @property
    def seconds(self) -> float:
        """The expected time; see `forecast`."""
        return float(self.forecast.seconds)

    @property
    def operations(self) -> int:
        """The floating-point operations of all passes and contractions; a multiply-add is two."""
        plan = self._parsed
        return int(plan["factor_operations"] + plan["contraction_operations"])

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self._plan.json())
        return parsed

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan and its forecast with the keys of `hessblock plan --json`."""
        return {**self._parsed, "forecast": self.forecast.to_dict()}

    def __str__(self) -> str:
        return f"{self._plan}".rstrip() + f"\nexpected: {self._summary()}"

    def _summary(self) -> str:
        memory = f"{format_bytes(self.host_bytes)} of host memory"
        if self.device_bytes:
            memory += f", {format_bytes(self.device_bytes)} of device memory"
        return f"{format_seconds(self.seconds)}, {format_bytes(self.bytes)} of results, {memory} at most"

    def __repr__(self) -> str:
        return f"Plan({self._summary()})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


class RunReport(Record):
    """The report of a run, by stage; the keys are those of `hessblock blocks --json`."""

    @property
    def gflops(self) -> float:
        """The rate of the run in 10⁹ operations per second."""
        return float(self["operations"] / self["seconds"] / 1e9) if self["seconds"] else 0.0

    def __repr__(self) -> str:
        if self["was_whole"]:
            return f"RunReport({self['path']} was complete already: nothing was computed)"
        made = f"{plural(self['tiles'], 'tile')}, {format_bytes(self['bytes'])}"
        found = self["found_tiles"]
        resumed = f" and {plural(found, 'tile')} of an earlier run" if found else ""
        return f"RunReport({self['path']}: {made}{resumed} in {format_seconds(self['seconds'])}, {self.gflops:.1f} Gflop/s)"


class Writable(ABC):
    """Parts of a matrix that can be planned and written to disk."""

    @abstractmethod
    def _request(self) -> _core.Request:
        """Returns the request for the parts, with the weights as they are now."""

    @abstractmethod
    def _progress(self, progress: Progress) -> Progress:
        """Returns the choice of the problem where `progress` is None."""

    def plan(self, path: Path | None = None, **options: Any) -> Plan:
        """Returns the plan: the time and the memory that computing will take. Nothing is computed.

        Args:
            path: The path that the result would be written to; by default it is planned in memory.
            **options: Options of `to_zarr` and the others that write.

        Raises:
            BudgetError: The memory budget does not hold the least work.
        """
        request = self._request()
        output = None if path is None else _core.Output(os.fspath(path), **options)
        return Plan(request.plan(output), request.bytes)

    def to_npy(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        restart: bool = False,
        shard: tuple[int, int] | None = None,
        progress: Progress = None,
    ) -> RunReport:
        """Computes one part of any size into a `.npy` file, tile by tile.

        The result grows under `NAME.partial` and takes its name once it is complete. The same call after an
        interruption, with the same weights and data, resumes the run.

        Args:
            path: The file; its name ends in `.npy`. Row and column names are written beside it in `NAME.npy.json`.
            overwrite: Whether an older result of hessblock at that path is replaced.
            restart: Whether to begin anew in place of resuming.
            shard: (k, n) for the k-th of n processes that make one result together; `hessblock.merge` finishes it.
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            The report of the run.

        Raises:
            FileError: The path cannot be written, or a result exists there and `overwrite` is False.
            OtherRunError: Another run was begun at that path.
            DiskError: The disk has too little room.
            BudgetError: The memory budget does not hold one tile.
        """
        return self._write(path, ".npy", progress, overwrite=overwrite, restart=restart, shard=shard)

    def to_zarr(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        restart: bool = False,
        shard: tuple[int, int] | None = None,
        compress: int | None = None,
        chunks_per_file: int | None = None,
        upper_triangle: bool = False,
        progress: Progress = None,
    ) -> RunReport:
        """Computes into a Zarr group (version 3), with an array for each part.

        Args:
            path: The folder; its name ends in `.zarr`.
            overwrite: See `to_npy`.
            restart: See `to_npy`.
            shard: See `to_npy`.
            compress: A level of zstd from 1 to 22; by default nothing is compressed.
            chunks_per_file: n for files of n × n chunks, for results of very many chunks.
            upper_triangle: Whether symmetric parts are stored by their tiles on and above the diagonal only.
            progress: See `to_npy`.

        Returns:
            The report of the run.

        Raises:
            Error: See `to_npy`.
        """
        return self._write(
            path,
            ".zarr",
            progress,
            overwrite=overwrite,
            restart=restart,
            shard=shard,
            compress=compress,
            chunks_per_file=chunks_per_file,
            upper_triangle=upper_triangle,
        )

    def to_safetensors(self, path: Path, *, overwrite: bool = False, progress: Progress = None) -> RunReport:
        """Computes into a `.safetensors` file of at most 2 GiB, which is made in memory.

        Args:
            path: The file; its name ends in `.safetensors`.
            overwrite: See `to_npy`.
            progress: See `to_npy`.

        Returns:
            The report of the run.

        Raises:
            Error: See `to_npy`.
        """
        return self._write(path, ".safetensors", progress, overwrite=overwrite)

    def to_folder(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        restart: bool = False,
        shard: tuple[int, int] | None = None,
        progress: Progress = None,
    ) -> RunReport:
        """Computes into a folder with a `.npy` file for each part, and `index.json`.

        Args:
            path: The folder; its name has no extension.
            overwrite: See `to_npy`.
            restart: See `to_npy`.
            shard: See `to_npy`.
            progress: See `to_npy`.

        Returns:
            The report of the run.

        Raises:
            Error: See `to_npy`.
        """
        return self._write(path, "", progress, overwrite=overwrite, restart=restart, shard=shard)

    def _write(self, path: Path, ending: str, progress: Progress, **options: Any) -> RunReport:
        place = os.fspath(path)
        found = os.path.splitext(place.rstrip("/" + os.sep))[1]
        if found != ending and (ending or found in (".npy", ".zarr", ".safetensors")):
            wanted = f"a name that ends in {ending}" if ending else "a name without an extension"
            raise RequestError(f"{place}: give {wanted}, or use the method for {found or 'folders'}")
        output = _core.Output(place, **options)
        request = self._request()
        with reporting(self._progress(progress), f"writing {os.path.basename(place)}") as report:
            return RunReport({"path": place, **request.write(output, progress=report)})
