"""Results that the library gives as JSON, with their keys as attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Record:
    """Named values, some of which are records and lists of records themselves.

    A value is read as an attribute (`report.seconds`) or by its key (`report["seconds"]`). `to_dict()` gives
    plain dictionaries and lists, as in JSON.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = dict(fields)

    def __getattr__(self, name: str) -> Any:
        # `_fields` is not there yet while a record is unpickled.
        fields: dict[str, Any] = self.__dict__.get("_fields", {})
        if name not in fields:
            there = ", ".join(fields)
            raise AttributeError(f"{type(self).__name__} has no {name!r}; it has {there}")
        return _wrapped(fields[name])

    def __getitem__(self, key: str) -> Any:
        return _wrapped(self._fields[key])

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def keys(self) -> list[str]:
        """Returns the names of the values."""
        return list(self._fields)

    def to_dict(self) -> dict[str, Any]:
        """Returns the values as dictionaries, lists, numbers and text."""
        return dict(self._fields)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(key for key in self._fields if key.isidentifier())})

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Record) and other._fields == self._fields

    __hash__ = None  # type: ignore[assignment] # its values are lists and dictionaries

    def __repr__(self) -> str:
        fields = ", ".join(f"{key}={_brief(value)}" for key, value in self._fields.items())
        return f"{type(self).__name__}({fields})"


def _wrapped(value: Any) -> Any:
    if isinstance(value, dict):
        return Record(value)
    if isinstance(value, list):
        return [_wrapped(entry) for entry in value]
    return value


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, list) and (len(value) > 4 or any(isinstance(entry, (dict, list)) for entry in value)):
        return f"[{len(value)} entries]"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
