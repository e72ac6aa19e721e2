"""The progress of long work: a bar, a line, or a callable of the user's."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Report = Callable[[int, int], object]
"""A callable `(done, total)` that is told the progress."""

Progress = bool | Report | None
"""The type of the argument `progress`: True for a bar, a callable `(done, total)`, False or None for nothing."""


class _Bar:
    """A bar of tqdm, which turns into a widget in notebooks."""

    def __init__(self, bar: Callable[..., Any], what: str) -> None:
        self._make, self._what = bar, what
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = self._make(total=total, desc=self._what, leave=False, unit_scale=True)
        elif self._bar.total != total or done < self._bar.n:
            self._bar.reset(total)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Line:
    """A line on standard error, where tqdm is not installed."""

    SECONDS = 0.5
    """The least time between two states of the line."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last: float | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._last is None or now - self._last >= self.SECONDS:
            self._last = now
            share = 100.0 * done / max(total, 1)
            print(f"\r{self._what}: {share:3.0f} %", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._last is not None:
            print(f"\r{self._what}: done ", file=sys.stderr, flush=True)


def _display(what: str) -> _Bar | _Line:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return _Line(what)
    return _Bar(tqdm, what)


@contextmanager
def reporting(progress: Progress, what: str) -> Iterator[Report | None]:
    """Yields the callable that the compiled module tells its progress to, or None.

    Args:
        progress: True for a bar of tqdm (a line on standard error without tqdm), a callable `(done, total)`,
            or False or None for nothing. An exception of the callable stops the work and is passed on.
        what: The name of the work, which the bar shows.

    Raises:
        TypeError: `progress` is none of these.
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        display = _display(what)
        try:
            yield display
        finally:
            display.close()
    elif callable(progress):
        yield progress
    else:
        raise TypeError(f"progress={progress!r}: give True, False or a callable (done, total)")
