"""Pieces of messages."""

from __future__ import annotations


def first_line(message: object) -> str:
    """Returns the first line of a text, or of an exception's message, that is not empty; an exception's type if there is none."""
    lines = (line.strip() for line in str(message).splitlines())
    return next((line for line in lines if line), type(message).__name__ if isinstance(message, BaseException) else "")


def listed(names: list[str], most: int = 12) -> str:
    """Returns names separated by commas, with a count of those beyond the first few."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
