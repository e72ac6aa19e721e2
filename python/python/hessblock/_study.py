"""The study of the error of the generalized Gauss-Newton matrix as an approximation of the Hessian."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import _core
from ._errors import RequestError
from ._progress import Progress, reporting
from ._record import Record
from ._show import picture

if TYPE_CHECKING:
    from ._problem import Problem

INITIALISERS = ("glorot", "he", "orthogonal", "lecun", "truncated-normal", "file")


class ErrorStudy(Record):
    """The error of G along the layers' gradients, and in the blocks between layers.

    The values are those of `error.json`: `gradient.layers[k].error.median` and its like, `pairs`, `provenance`. A
    notebook shows the figures.
    """

    def __init__(self, study: _core.Study, name: str) -> None:
        super().__init__(json.loads(study.json()))
        self._study, self._name = study, name

    def csv(self) -> str:
        """Returns a table with a row per layer: quantiles 0.05, median and 0.95 of error, G, H and relative error."""
        return self._study.csv()

    def files(self) -> dict[str, bytes]:
        """Returns error.json, error.csv and the figures, by name."""
        return dict(self._study.files(self._name))

    def write(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes error.json, error.csv, error.png, error.svg and, with pairs, pairs.png and pairs.svg.

        Args:
            folder: The folder, which is created.
            overwrite: Whether to write into a folder that exists.

        Raises:
            FileError: The folder exists, or cannot be written.
        """
        self._study.write(os.fspath(folder), self._name, overwrite)

    def plot(self, ax: Any = None, *, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws the error of every layer along its gradient beside the curvature, with matplotlib.

        Points are medians over the draws, lines reach from the 5 % to the 95 % quantile.

        Args:
            ax: The axes to draw on; by default those of a new figure.
            path: The file to save the figure to; its ending decides the format.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ModuleNotFoundError as error:
            from ._frontend import missing

            raise missing(error, "plot", "ErrorStudy.plot") from error
        layers = [layer for layer in self["gradient"].layers if layer.error is not None]
        own = ax is None
        if own:
            _, ax = pyplot.subplots(figsize=(7, 1.6 + 0.4 * len(layers)), layout="constrained")
        for shift, key, label, color in (
            (-0.12, "hessian", "|gᵀHg| / ‖g‖², what is approximated", "0.6"),
            (0.12, "error", "|gᵀ(H − G)g| / ‖g‖², the error", "tab:blue"),
        ):
            places, middles, lows, highs = [], [], [], []
            for k, layer in enumerate(layers):
                low, middle, high = _spread(layer, key)
                if middle > 0:
                    places.append(k + shift)
                    middles.append(middle)
                    lows.append(max(middle - low, 0.0))
                    highs.append(max(high - middle, 0.0))
            ax.errorbar(middles, places, xerr=[lows, highs], fmt="o", color=color, capsize=2, label=label)
        ax.set_yticks(range(len(layers)), [layer.layer for layer in layers])
        ax.set_ylim(len(layers) - 0.5, -0.5)
        ax.set_xscale("log")
        for k, layer in enumerate(layers):
            if layer.error.high == 0:
                ax.annotate("error 0 ", (1, k + 0.12), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=8)
        gradient = self["gradient"]
        ax.set_xlabel("curvature along the layer's gradient")
        ax.set_title(f"{self._name}: {gradient.draws} draws of {gradient.initialiser}, {gradient.samples} samples", fontsize=10)
        if own:
            ax.figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
        else:
            ax.legend(fontsize=8)
        if path is not None:
            ax.figure.savefig(os.fspath(path))
        return ax

    def _repr_png_(self) -> bytes:
        return self.files()["error.png"]

    def _repr_html_(self) -> str:
        files = self.files()
        pictures = [picture(files[name], name) for name in ("error.png", "pairs.png") if name in files]
        return "".join(pictures) + f"<pre>{html.escape(repr(self))}</pre>"

    def __repr__(self) -> str:
        gradient = self["gradient"]
        lines = [
            f"|gᵀ(H − G)g| / ‖g‖² along each layer's gradient g, {gradient.draws} draws of {gradient.initialiser}, "
            f"{gradient.samples} samples"
        ]
        wide = max([5, *(len(layer.layer) for layer in gradient.layers)])
        heads = ("parameters", "median", "5 %", "95 %", "gᵀHg / ‖g‖²", "of gᵀHg")
        lines.append(f"{'layer':<{wide}}  " + "  ".join(f"{head:>11}" for head in heads))
        for layer in gradient.layers:
            row = f"{layer.layer:<{wide}}  {layer.parameters:>11,}  "
            if layer.error is None:
                lines.append(row + "undefined: the gradient is 0 in every draw")
                continue
            numbers = (layer.error.median, layer.error.low, layer.error.high, layer.hessian.median)
            share = "-" if layer.relative is None else f"{100 * layer.relative.median:.2f} %"
            lines.append(row + "  ".join(f"{_number(value):>11}" for value in numbers) + f"  {share:>11}")
        pairs = self["pairs"]
        if pairs is not None:
            whole = "H is 0" if pairs.whole is None else f"{pairs.whole:.3f}"
            lines.append(f"‖H − G‖ / ‖H‖ (Frobenius) of all {len(pairs.pairs)} blocks together: {whole}")
            worst = max(pairs.pairs, key=lambda pair: pair.frobenius.error or 0.0)
            names = [pairs.layers[k].layer for k in (worst.rows, worst.columns)]
            lines.append(f"largest: {worst.frobenius.error or 0.0:.3f} between {names[0]} and {names[1]}")
        return "\n".join(lines)


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.2e}"


def _spread(layer: Record, key: str) -> tuple[float, float, float]:
    """Returns the 5 % quantile, the median and the 95 % quantile of a layer's draws, without signs."""
    if key == "error":
        return layer.error.low, layer.error.median, layer.error.high
    values = sorted(abs(draw.ggn + draw.residual) for draw in layer.draws if draw is not None)

    def at(share: float) -> float:
        place = share * (len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return float(values[low] + (place - low) * (values[high] - values[low]))

    return at(0.05), at(0.5), at(0.95)


def error(
    problem: Problem,
    *,
    layers: str | Sequence[str] = (),
    initialiser: str = "glorot",
    draws: int = 100,
    seed: int = 0,
    samples: int | None = 64,
    pairs: bool = True,
    spectral: bool = True,
    exact_entries: int = 4_000_000,
    probes: int = 32,
    progress: Progress = None,
) -> ErrorStudy:
    """Measures how far G is from H, over random initialisations of the weights, as `hessblock error` does.

    Along gradients: |gᵀ(H − G)g| / ‖g‖² for every layer, g the layer's gradient. In blocks: ‖H − G‖ / ‖H‖ for every
    pair of layers, at the first initialisation. The model's own weights are not changed.

    Args:
        problem: The model with its data and loss.
        layers: Patterns of layers, such as `"conv*"`; by default all.
        initialiser: The distribution of the weights: "glorot", "he", "lecun", "orthogonal" or "truncated-normal"; or "file" for
            the model's own weights, once.
        draws: The number of initialisations.
        seed: Decides all random numbers.
        samples: The number of samples, from the first; None takes all samples of the problem.
        pairs: Whether the errors of blocks are measured.
        spectral: Whether the blocks' spectral norms are measured too.
        exact_entries: The number of entries up to which a block is formed; errors of larger ones are estimated.
        probes: Random vectors per layer for estimates.
        progress: True for a bar, or a callable `(done, total)`.

    Raises:
        RequestError: A pattern matches no layer; the loss gives no gradient; or the loss is a callable, which is known
            at the model's own weights only, and weights are to be drawn.
        InvalidValueError: The network overflows with drawn weights.

    Source: Skorski, "Approximating Hessians for Neural Networks", 2021, figure 3.
    """
    if initialiser not in INITIALISERS:
        raise RequestError(f"unknown initialiser {initialiser!r}: give one of {', '.join(INITIALISERS)}")
    if problem.has_callable_loss and initialiser != "file":
        raise RequestError(
            f"the loss {problem.loss} is known at the model's own weights only, and {initialiser!r} draws others: take "
            "initialiser='file', or a loss that the library knows"
        )
    taken = problem.samples if samples is None else min(samples, problem.samples)
    session = problem._sessions.first(taken)
    with reporting(problem._progress_of(progress), "error") as report:
        study = session.study(
            layers=[layers] if isinstance(layers, str) else list(layers),
            initialiser=initialiser,
            draws=draws,
            seed=seed,
            pairs=pairs,
            exact_entries=exact_entries,
            probes=probes,
            spectral=spectral,
            progress=report,
        )
    return ErrorStudy(study, f"{problem.name}, {problem.loss}")
