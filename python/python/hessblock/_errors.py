"""The exceptions of hessblock. Each is an `Error`, and also the built-in exception that fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Error(Exception):
    """A failure that hessblock reports. The message says what is wrong, where, and what to do."""


class FileError(Error, OSError):
    """A file cannot be read or written, or does not hold what it should (`path`)."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class UnsupportedError(Error, NotImplementedError):
    """The model holds operations that cannot be taken; `nodes` lists all of them."""

    def __init__(self, message: str, *, nodes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.nodes = list(nodes)


class ShapeError(Error, ValueError):
    """Shapes do not fit each other."""


class RequestError(Error, ValueError):
    """A request cannot be carried out as asked."""


class InvalidValueError(Error, ValueError):
    """A value is not finite, or is out of its range."""


class ModelError(Error, ValueError):
    """A model would not give the Hessian that its user expects, such as a module in training mode."""


class DataError(Error, ValueError):
    """Data cannot be read as fixed samples, such as those of a loader that shuffles."""


class CheckError(Error, RuntimeError):
    """The network that was taken from a module does not compute what the module computes."""


class Remedied(Error):
    """A failure with known remedies; `remedies` lists them as (kind, details)."""

    def __init__(self, message: str, *, remedies: Sequence[tuple[str, dict[str, Any]]] = ()) -> None:
        super().__init__(message)
        self.remedies = list(remedies)

    @property
    def remedy(self) -> tuple[str, dict[str, Any]] | None:
        """The first remedy, or None."""
        return self.remedies[0] if self.remedies else None


class NotFiniteError(Remedied, ArithmeticError):
    """A number of a result, or on the way to it, is NaN or infinite."""


class BudgetError(Remedied, MemoryError):
    """The memory budget is too small: `needed` and `available` are bytes."""

    def __init__(
        self,
        message: str,
        *,
        needed: int = 0,
        available: int = 0,
        remedies: Sequence[tuple[str, dict[str, Any]]] = (),
    ) -> None:
        super().__init__(message, remedies=remedies)
        self.needed = needed
        self.available = available


class DiskError(Remedied, OSError):
    """The disk has no room for a result: `needed` and `available` are bytes."""

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        needed: int = 0,
        available: int = 0,
        remedies: Sequence[tuple[str, dict[str, Any]]] = (),
    ) -> None:
        super().__init__(message, remedies=remedies)
        self.path = path
        self.needed = needed
        self.available = available

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class OtherRunError(Remedied, FileExistsError):
    """Another run was begun at the path of this one; `differences` says how it differs."""

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        differences: Sequence[str] = (),
        remedies: Sequence[tuple[str, dict[str, Any]]] = (),
    ) -> None:
        super().__init__(message, remedies=remedies)
        self.path = path
        self.differences = list(differences)

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DeviceError(Error, RuntimeError):
    """There is no such device, or it failed."""


class Interrupted(Error):
    """Work was stopped. What stopped it, such as KeyboardInterrupt or an exception of a progress callable, is raised in its place."""
