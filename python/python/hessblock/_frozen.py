"""Problems taken apart into what can be sent to another process, and made again there.

A frozen problem has the weights, data and derivatives of the loss as they were. It needs neither the model's library nor its
code. Devices are chosen anew where it is made again. Data that were given as paths stay paths.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._errors import Error, RequestError
from ._frontend import Data, FrozenFrontend, Graph, NetworkOptions, OnnxFrontend
from ._problem import Problem


@dataclass(frozen=True)
class Derivatives:
    """A callable loss as it was at the outputs of all samples."""

    name: str
    outputs: NDArray[np.float64]
    values: NDArray[np.float64]
    gradients: NDArray[np.float64]
    hessians: NDArray[np.float64]
    sample_weight: float = 1.0

    def weight(self, samples: int) -> float:
        """Returns the weight that the reduction gave each sample."""
        return self.sample_weight

    def derivatives(
        self, outputs: NDArray[np.float64], targets: NDArray[Any] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Returns values, gradients and Hessians as they were.

        Raises:
            RequestError: The outputs are others.
        """
        if outputs.shape != self.outputs.shape or not np.allclose(outputs, self.outputs, rtol=1e-3, atol=1e-4):
            raise RequestError(
                f"the loss {self.name} is known at the outputs that the problem had when it was pickled: update the problem where the "
                "loss itself is, and pickle it again"
            )
        return self.values, self.gradients, self.hessians


@dataclass(frozen=True)
class Frozen:
    """The parts of a problem."""

    name: str
    model: Graph | str | bytes
    """A graph, or an ONNX file."""
    output: str | int | None
    arrays: list[tuple[str, NDArray[Any]]]
    """The weights and buffers of a graph."""
    values: NDArray[Any] | None
    """The parameters of a file whose weights are others by now."""
    data: Data
    loss: _core.Loss | Derivatives
    options: NetworkOptions
    device: Any
    precision: str
    samples: Any
    budget: dict[str, Any]

    @property
    def digest(self) -> str:
        """A hash of all parts."""
        sha = hashlib.sha256()
        buffers: list[pickle.PickleBuffer] = []
        sha.update(pickle.dumps(self, protocol=5, buffer_callback=buffers.append))
        for buffer in buffers:
            sha.update(buffer.raw())
        return sha.hexdigest()


def freeze(problem: Problem) -> Frozen:
    """Takes a problem apart, with the weights that it has now."""
    frontend, sessions = problem._frontend, problem._sessions
    flat = narrowed(problem.values())
    data, samples = problem._data, problem._range
    loss: _core.Loss | Derivatives
    if isinstance(problem._loss, _core.Loss):
        loss = problem._loss
    else:
        session = sessions.current()
        outputs = session.outputs()
        found = sessions.derivatives(problem._loss, outputs)
        weight = getattr(problem._loss, "weight", None)
        loss = Derivatives(problem._loss.name, outputs, *found, 1.0 if weight is None else weight(len(outputs)))
        if samples is not None:
            from ._data_files import take
            from ._sessions import sample_range

            bounds = sample_range(samples, data.samples)
            if bounds is not None:
                data = Data([(name, take(source, *bounds)) for name, source in data.inputs], None, session.samples)
            samples = None
        else:
            data = Data(data.inputs, None, data.samples)
    data = Data([(name, absolute(source)) for name, source in data.inputs], absolute(data.targets), data.samples)
    model: Graph | str | bytes
    arrays: list[tuple[str, NDArray[Any]]] = []
    values, output = None, None
    if isinstance(frontend, OnnxFrontend):
        model, output = whole_file(frontend), frontend._output
        values = flat
    else:
        model = frontend.graph()
        named = {p.name: flat[p.range].reshape(p.shape) for p in problem.parameters}
        arrays = [(name, named.get(name, array)) for name, array in frontend.arrays()]
    return Frozen(
        problem.name,
        model,
        output,
        arrays,
        values,
        data,
        loss,
        problem._options,
        problem._choice,
        problem._device.precision,
        samples,
        problem._budget,
    )


def thaw(frozen: Frozen, device: Any = None) -> Problem:
    """Makes a problem of its parts, on a device of this machine."""
    model: OnnxFrontend | FrozenFrontend
    if isinstance(frozen.model, Graph):
        model = FrozenFrontend(frozen.name, frozen.model, frozen.arrays)
    else:
        model = OnnxFrontend(frozen.model, output=frozen.output)
        model.name = frozen.name
    with warnings.catch_warnings():
        # Its user has read them where it was made first.
        warnings.simplefilter("ignore", UserWarning)
        problem = Problem(
            model,
            frozen.loss,
            frozen.data,
            device=frozen.device if device is None else device,
            dtype=frozen.precision,
            samples=frozen.samples,
            check=False,
            dimensions=frozen.options.dimensions,
            constant=frozen.options.constant,
            trainable=frozen.options.trainable,
            tie=frozen.options.tie,
            untie=frozen.options.untie,
            weights=absolute(frozen.options.weights),
            **frozen.budget,
        )
        if frozen.values is not None and not np.array_equal(frozen.values, problem.values()):
            problem.update(frozen.values)
    return problem


def narrowed(values: NDArray[np.float64]) -> NDArray[Any]:
    """Returns numbers in single precision, where that loses nothing."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if np.array_equal(single, values, equal_nan=True) else values


def absolute(source: Any) -> Any:
    """Returns a path as one that holds in every folder, and an array as it is."""
    return os.path.abspath(source) if isinstance(source, str) else source


def whole_file(frontend: OnnxFrontend) -> str | bytes:
    """Returns the bytes of an ONNX file, or its path where its weights are in other files."""
    if isinstance(frontend._model, bytes):
        return frontend._model
    with open(frontend._model, "rb") as file:
        content = file.read()
    try:
        _core.Network.from_bytes(content, frontend.name)
    except Error:
        return os.path.abspath(frontend._model)
    return content
