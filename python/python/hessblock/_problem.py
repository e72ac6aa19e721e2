"""A problem: a model, its data, a loss and a device."""

from __future__ import annotations

import html
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._devices import device_of
from ._errors import DataError, RequestError
from ._frontend import NetworkOptions, OnnxFrontend, frontend_of, network_of
from ._lazy import joined
from ._progress import Progress, reporting
from ._sessions import Sessions, sample_range
from ._units import format_shape, parse_bytes, plural
from ._vectors import Layer, Packed, Parameter, aligned, as_names, pack, to_numpy

_LOG = logging.getLogger("hessblock")


class Problem:
    """A model with its data and its loss, on a device. All matrices are made from one.

    The parameters have one flat order everywhere, that of `named_parameters()` for a module: `parameters` lists names,
    shapes and offsets.

    Args:
        model: A `torch.nn.Module`, a path or the bytes of an ONNX file, or `(fn, params)` of JAX.
        loss: A loss of PyTorch, a name ("cross-entropy", "mse", "bce"), a `hessblock.Loss`, or a callable
            `loss(outputs, targets)`.
        data: (inputs, targets) of arrays, tensors or paths, a `Dataset`, or a `DataLoader` without shuffling; a
            dictionary by name in place of inputs for a model with several. Arrays and tensors are not copied where that
            can be avoided: make a new problem after changing them in place.
        device: "auto", "cpu", "gpu", a part of a GPU's name, or its index in `hessblock.devices()`; a list of GPUs
            shares the work.
        dtype: "float32" or "float64". Double precision runs on the CPU. By default float32, or float64 for a model
            whose weights are in double precision.
        memory: The memory to use on the device, such as "4GiB".
        host_memory: The host memory to use for a computation, such as "2GiB"; by default a share of what is free.
        batch: The samples computed at a time; by default as many as the memory holds.
        samples: The first n samples, or (start, stop); by default all.
        check: Whether outputs, loss and gradient of a few samples are compared with those of the model itself; a file
            has no other implementation to compare with.
        progress: The choice for all work: True for a bar, or a callable `(done, total)`.
        allow_non_finite: Whether results may hold NaN and infinite numbers, which are refused by default.
        dimensions: The extents of symbolic axes of an ONNX file, other than that of samples.
        constant: Patterns of parameters that are not differentiated.
        trainable: ONNX: patterns of tensors that are parameters although the file has them as constants.
        tie: ONNX: "COPY=SOURCE" for tensors that are one parameter.
        untie: ONNX: tensors that are parameters of their own although they are equal.
        weights: ONNX: a `.safetensors` file whose tensors replace those of the file by name.
        output: The name of the output to take, of a model that has several; of a module also its number.
        reduction: The reduction of a callable loss over the samples, "mean" or "sum", if its values do not tell.

    Raises:
        UnsupportedError: The model has operations that cannot be taken; `nodes` lists all of them.
        ModelError: The model would not give the Hessian that is expected, such as a module in training mode.
        DataError: The data are not fixed samples.
        CheckError: The network does not compute what the model computes.
        ShapeError: Data, targets and network do not fit each other.
        BudgetError: The memory does not hold the work.
    """

    def __init__(
        self,
        model: Any,
        loss: Any = None,
        data: Any = None,
        *,
        device: Any = "auto",
        dtype: Any = None,
        memory: str | SupportsIndex | None = None,
        host_memory: str | SupportsIndex | None = None,
        batch: int | None = None,
        samples: int | Sequence[int] | slice | None = None,
        check: bool = True,
        progress: Progress = False,
        allow_non_finite: bool = False,
        dimensions: Mapping[str, int] | None = None,
        constant: str | Iterable[str] = (),
        trainable: str | Iterable[str] = (),
        tie: str | Iterable[str] = (),
        untie: str | Iterable[str] = (),
        weights: str | None = None,
        output: str | int | None = None,
        reduction: str | None = None,
    ) -> None:
        if data is None:
            raise DataError("a problem needs data: give Problem(model, loss, data), where data are (inputs, targets) or a DataLoader")
        options = NetworkOptions(
            _patterns(constant),
            _patterns(trainable),
            _patterns(tie),
            _patterns(untie),
            weights,
            dict(dimensions or {}),
        )
        self._default_progress = progress
        self._options, self._choice, self._range = options, device, samples
        self._budget = budget = {
            "batch": batch,
            "memory": parse_bytes(memory, "memory"),
            "host_memory": parse_bytes(host_memory, "host_memory"),
            "allow_non_finite": allow_non_finite,
        }
        self._found: tuple[NDArray[np.float64], float, float | None] | None = None
        self._frontend = frontend_of(model, output=output, reduction=reduction)
        # A file says what its inputs are called, and a module is exported with its data.
        if isinstance(self._frontend, OnnxFrontend):
            network = network_of(self._frontend, options)
            self._data = self._frontend.data(data)
        else:
            self._data = self._frontend.data(data)
            network = network_of(self._frontend, options)
        self._device = device_of(device, dtype, _double(self._frontend, network))
        self._loss = self._frontend.loss(loss)
        self._parameters = [Parameter(name, layer, tuple(shape), at) for name, layer, shape, at in network.parameters]
        self._sessions = Sessions(
            network,
            self._data,
            self._loss,
            self._device,
            samples=sample_range(samples, self._data.samples),
            progress=progress,
            budget=budget,
        )
        if check:
            self._frontend.check(self._session(), self._data, self._loss, self._sessions.bounds)
        self._tell()

    def _session(self) -> _core.Session:
        """Returns the session of the weights as they are now."""
        return self._sessions.current()

    @property
    def _network(self) -> _core.Network:
        return self._sessions.network

    def _tell(self) -> None:
        for text in dict.fromkeys(self.notes):
            warnings.warn(text, UserWarning, stacklevel=3)
        if self._device.note:
            _LOG.info(self._device.note)

    def _progress_of(self, progress: Progress) -> Progress:
        return self._default_progress if progress is None else progress

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._frontend.name

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters in the flat order: name, layer, shape, offset, size."""
        return list(self._parameters)

    @property
    def layers(self) -> list[Layer]:
        """The layers: name, names of the parameters, flat ranges, size."""
        return [Layer(name, tuple(own), joined(ranges)) for name, own, ranges in self._network.layers]

    @property
    def size(self) -> int:
        """The number p of all parameters' entries."""
        return self._network.parameter_count

    @property
    def samples(self) -> int:
        """The number N of samples that the loss is taken over."""
        return self._sessions.samples

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of a sample's outputs."""
        return tuple(self._network.output_shape)

    @property
    def device(self) -> str:
        """The name of the device."""
        return self._device.name

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision in which the device computes: float32 or float64."""
        return np.dtype(np.float64 if self._device.precision == "f64" else np.float32)

    @property
    def loss(self) -> str:
        """The loss with its options."""
        return self._loss.name

    @property
    def has_callable_loss(self) -> bool:
        """Whether the loss is a callable, of which the library takes the derivatives at the outputs."""
        return not self._sessions.known

    @property
    def notes(self) -> list[str]:
        """The facts that a user should know; the problem warned of them when it was made."""
        return [*self._frontend.notes, *self._network.warnings]

    @property
    def version(self) -> int:
        """A number that `update` raises: results of another version are those of other weights."""
        return self._sessions.version

    def values(self, *, as_dict: bool = False) -> Any:
        """Returns the parameters as they were taken.

        Args:
            as_dict: Whether to return arrays in the parameters' shapes, by name.

        Returns:
            float64 [p] in the flat order, or a dictionary.
        """
        flat = self._network.values()
        return as_names(flat, self._parameters) if as_dict else flat

    def update(self, values: Any = None) -> None:
        """Takes the model's weights as they are now, or other ones. Operators and blocks follow.

        The model is not exported anew, so that an update takes milliseconds.

        Args:
            values: None for the weights and buffers that the module has now. Else the parameters, as an array or
                tensor [p] in the flat order, or as a dictionary by name; for JAX also a tree like `params`.

        Raises:
            RequestError: A file's weights do not change: give values.
            ShapeError: Names or shapes do not fit the parameters.
            InvalidValueError: A value is NaN or infinite.
        """
        if values is None:
            if isinstance(self._frontend, OnnxFrontend):
                raise RequestError(f"{self.name} is a file, whose weights do not change: give update(values)")
            network = self._network.with_arrays(self._frontend.arrays())
        else:
            network = self._network.with_values(self._flat(values))
        self._sessions.replace(network)
        self._found = None

    def _pack(self, vectors: Any) -> Packed:
        """Takes vectors in any of the forms that a user may give."""
        return pack(vectors, self._parameters, self.size)

    def _flat(self, values: Any) -> NDArray[np.float64]:
        flatten = getattr(self._frontend, "flatten", None)
        if flatten is not None:
            values = flatten(values)
        flat = self._pack(values).array.astype(np.float64, copy=False)
        if flat.ndim != 1:
            raise RequestError(f"values of shape {list(flat.shape)}: give [{self.size}]")
        return flat

    def _gradient(self, progress: Progress) -> tuple[NDArray[np.float64], float, float | None]:
        version = self.version
        if self._found is None:
            with reporting(self._progress_of(progress), "gradient") as report:
                found = self._session().gradient(progress=report)
            if version != self.version:
                return found
            self._found = found
        return self._found

    def loss_value(self, *, progress: Progress = None) -> float:
        """Returns the loss over all samples, with its reduction.

        Args:
            progress: True for a bar, or a callable `(done, total)`.
        """
        return self._gradient(progress)[1]

    def accuracy(self, *, progress: Progress = None) -> float | None:
        """Returns the share of samples whose largest output is the target's class; None for a loss without classes.

        Args:
            progress: True for a bar, or a callable `(done, total)`.
        """
        return self._gradient(progress)[2]

    def gradient(self, *, as_dict: bool = False, progress: Progress = None) -> Any:
        """Returns the gradient of the loss.

        Args:
            as_dict: Whether to return arrays in the parameters' shapes, by name.
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            float64 [p] in the flat order, or a dictionary.

        Raises:
            RequestError: The loss gives no gradient.
        """
        flat = self._gradient(progress)[0].copy()
        return as_names(flat, self._parameters) if as_dict else flat

    def outputs(self, *, progress: Progress = None) -> NDArray[np.float64]:
        """Returns the model's outputs, float64 [N, …] with a sample's outputs in their own shape.

        Args:
            progress: True for a bar, or a callable `(done, total)`.
        """
        with reporting(self._progress_of(progress), "outputs") as report:
            found = self._session().outputs(progress=report)
        return found.reshape(len(found), *self.output_shape)

    def jvp(self, vectors: Any, *, progress: Progress = None) -> Any:
        """Returns J v, the derivative of the outputs along v. C is the number of a sample's outputs.

        Args:
            vectors: An array or tensor [p] or [p, k], or a dictionary by parameter, as `Operator.apply` takes it.
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            [N, C], or [N, k, C] for k vectors; an array, or a tensor where v is made of tensors.

        Raises:
            ShapeError: The shape or the names do not fit the parameters.
        """
        packed = self._pack(vectors)
        columns = packed.array.reshape(self.size, -1).astype(np.float64, copy=False)
        with reporting(self._progress_of(progress), "jvp") as report:
            product = self._session().jvp(columns, progress=report)
        return packed.leaf(product[:, 0, :] if packed.array.ndim == 1 else product)

    def vjp(self, cotangents: Any, *, as_dict: bool = False, progress: Progress = None) -> Any:
        """Returns Σ_n J_nᵀ u_n, the gradient of Σ_n u_n·z_n in the parameters. C is the number of a sample's outputs.

        Args:
            cotangents: u, an array or tensor [N, C], [N, …] in the outputs' shape, or [N, k, C] for k of them.
            as_dict: Whether to return arrays in the parameters' shapes, by name.
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            float64 [p], or [p, k] for k; or a dictionary of arrays in the parameters' shapes, with k as a last axis.

        Raises:
            ShapeError: The cotangents do not fit the outputs.
        """
        array = aligned(to_numpy(cotangents).astype(np.float64, copy=False))
        single = array.ndim == 2 or array.shape[1:] == self.output_shape
        if single:
            array = array.reshape(len(array), 1, -1)
        with reporting(self._progress_of(progress), "vjp") as report:
            product = self._session().vjp(array, progress=report)
        product = product[:, 0] if single else product
        if as_dict:
            return {p.name: product[p.range].reshape(*p.shape, *product.shape[1:]) for p in self.parameters}
        return product

    def __reduce__(self) -> tuple[Any, ...]:
        from ._frozen import freeze, thaw

        return thaw, (freeze(self),)

    def __repr__(self) -> str:
        layers, loss = plural(len(self.layers), "layer"), self.loss
        return (
            f"Problem({self.name}: {plural(self.size, 'parameter')} in {layers}, {plural(self.samples, 'sample')}, "
            f"{loss}, on {self.device} ({self.dtype}))"
        )

    def _repr_html_(self) -> str:
        shapes = {p.name: format_shape(p.shape) for p in self.parameters}
        rows = [
            f"<tr><td>{html.escape(layer.name)}</td><td>{layer.size:,}</td>"
            f"<td>{html.escape(', '.join(f'{name} {shapes[name]}' for name in layer.parameters))}</td></tr>"
            for layer in self.layers
        ]
        head = "<tr><th>layer</th><th>parameters</th><th>tensors</th></tr>"
        return f"<p>{html.escape(repr(self))}</p><table>{head}{''.join(rows)}</table>"


def _patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _double(frontend: Any, network: _core.Network) -> bool:
    """Returns whether all weights of a module are in double precision."""
    if isinstance(frontend, OnnxFrontend):
        return False
    names = {name for name, *_ in network.parameters}
    return bool(names) and all(array.dtype == np.float64 for name, array in frontend.arrays() if name in names)

