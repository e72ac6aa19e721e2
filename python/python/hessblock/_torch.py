"""A `torch.nn.Module` as a model: its graph, its weights as they are now, its data, its losses, and the comparison with it."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from . import _check as checks
from . import _core, _data
from . import _torch_call as calls
from . import _torch_check as torch_checks
from . import _torch_module as modules
from ._errors import ModelError
from ._frontend import CallableLoss, Data, Graph
from ._lazy import Bounds
from ._text import listed
from ._torch_export import Exported, export
from ._torch_loss import Loss, check_targets


class TorchFrontend:
    """A module of PyTorch.

    `data` comes first: the module is exported with its first samples as the example.
    """

    def __init__(self, module: Any, *, output: str | int | None = None, reduction: str | None = None) -> None:
        """`output` is the name or the number of the output to take, if the module returns several; `reduction` says what a loss is
        that is a function ("mean" or "sum" over the samples), if this cannot be found out from its values.

        Raises:
            ModelError: The module cannot be taken as it is: it is in training mode, or has no values.
            UnsupportedError: It has layers or number types that are not taken.
        """
        self.module, self.notes = modules.unwrap(module)
        self.name = type(self.module).__name__
        self.output, self.reduction = output, reduction
        held = modules.weights(self.module)
        modules.check_weights(self.name, held)
        modules.check_layers(self.module)
        self.real = modules.float_type(held)
        self._taken = {*held.parameters, *held.buffers, *held.tied}
        self._note_weights(held)
        self._call: calls.Call | None = None
        self._outputs: calls.Outputs | None = None
        self._examples: list[torch.Tensor] = []
        self._exported: Exported | None = None
        self._unread: dict[str, NDArray[Any] | str] = {}
        self._loss: Loss | None = None

    def _note_weights(self, held: modules.Weights) -> None:
        """Notes what happens to weights that do not go over as they are."""
        everything = {**held.parameters, **held.buffers}
        devices = {str(tensor.device) for tensor in everything.values()} - {"cpu"}
        halves = {str(tensor.dtype).removeprefix("torch.") for tensor in everything.values() if tensor.dtype in modules.HALVES}
        if devices:
            self.notes.append(f"the weights of {self.name} are copied from {', '.join(sorted(devices))} to the host")
        if halves:
            self.notes.append(f"the {' and '.join(sorted(halves))} weights of {self.name} are converted to float32")
        names: dict[str, list[str]] = {}
        for other, name in held.tied.items():
            if name in held.parameters and held.parameters[name].requires_grad:
                names.setdefault(name, []).append(other)
        for name, others in names.items():
            self.notes.append(f"{', '.join(others)} is tied to {name}: one parameter, named {name}")
        self._padding = [(held.tied.get(name, name), row) for name, row in modules.padding_rows(self.module)]
        for name, row in self._padding:
            self.notes.append(
                f"row {row} of {name} is that of padding_idx: PyTorch leaves its gradient at zero, and hessblock differentiates it"
            )
        self._half, self._stand_in = bool(halves), bool(devices or halves)
        self._targets: Any = None

    def data(self, data: Any) -> Data:
        """Returns the arrays of what a user gave as data, and exports the module with the first samples as the example.

        Inputs that no output depends on are left out.
        """
        taken = _data.read(data, names=self._arguments())
        call = calls.bind(self.module, taken, self._taken)
        if self._exported is not None and self._call is not None and call != self._call:
            raise ModelError(f"{self.name} was exported for the inputs {listed(self._call.names)}: other data must have the same")
        if self._call is None:
            self._examples, returned = calls.example(self.module, call, taken, self.real, self._place)
            self._outputs = calls.outputs(self.module, returned, self.output, {*self._taken, *call.names})
            self._check_training(call, returned)
            self._call = call
            self._export()
        unread = self._export().unread
        named = [(name, source) for name, (_, source) in zip(call.names, taken.inputs, strict=True)]
        self._unread = {name: source for name, source in named if name in unread}
        if len(named) > 1 or call.whole:
            taken.inputs = [(name, source) for name, source in named if name not in unread]
        self._targets = taken.targets
        return taken

    def _arguments(self) -> list[str]:
        import inspect

        return list(inspect.signature(self.module.forward).parameters)

    def _place(self, tensor: torch.Tensor) -> torch.Tensor:
        """Moves an input to the module's device, and to its number type if it is real."""
        for weight in self.module.parameters():
            if weight.is_floating_point():
                return tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else tensor.dtype)
        return tensor

    def _check_training(self, call: calls.Call, returned: Any) -> None:
        """Refuses a module in training mode whose outputs are others in evaluation mode, in which it is exported."""
        if not any(part.training for part in self.module.modules()):
            return
        buffers = {name: tensor.detach().clone() for name, tensor in self.module.named_buffers()}
        arguments, keywords = call.arguments([self._place(tensor) for tensor in self._examples], self.module)
        with torch.random.fork_rng(), torch.no_grad(), modules.eager():
            try:
                training = torch.func.functional_call(self.module, buffers, arguments, keywords)
            except Exception as error:
                raise ModelError(f"{self.name} is in training mode and fails there ({error}): call model.eval() first") from error
        assert self._outputs is not None
        value, other = self._outputs.value, calls.outputs(self.module, training, self.output, set()).value
        if value.shape != other.shape or not torch.allclose(value, other, rtol=1e-3, atol=1e-5 * float(value.abs().max())):
            raise ModelError(
                f"{self.name} is in training mode, in which it computes something else than in evaluation: call model.eval() first"
            )

    def graph(self) -> Graph:
        """Returns the exported graph. The export runs once."""
        exported = self._export()
        held = modules.weights(self.module)
        aliases = dict(exported.aliases)
        for name in exported.weights:
            full = next((graph for graph, clean in exported.aliases.items() if clean == name), name)
            if name in held.tied:
                aliases[full] = held.tied[name]
        assert self._outputs is not None
        output = exported.outputs[self._outputs.chosen] if len(exported.outputs) > 1 else None
        return Graph(exported.proto, held.differentiated, aliases, output)

    def _export(self) -> Exported:
        if self._exported is None:
            if self._call is None or self._outputs is None:
                raise ModelError(f"{self.name} is exported with samples of the data as an example: give the data first")
            module = modules.stand_in(self.module) if self._stand_in else self.module
            arguments = self._call.arguments(self._examples, module)
            self._exported = export(module, arguments, self._call.order(module), self._outputs.names, self._taken)
            if self._exported.cuts:
                self.notes.append(
                    f"{self.name} cuts off gradients ({listed(self._exported.cuts)}), which ONNX cannot express: hessblock "
                    "differentiates through them"
                )
        return self._exported

    def arrays(self) -> list[tuple[str, NDArray[Any]]]:
        """Returns all parameters, and the other tensors that the graph reads, as they are now: views where possible."""
        exported = self._export()
        held = modules.weights(self.module)
        names = dict.fromkeys(held.differentiated)
        names.update(dict.fromkeys(held.tied.get(name, name) for name in exported.weights))
        made = []
        for name in names:
            tensor = held.get(name)
            if tensor is None:
                raise ModelError(f"{self.name} has no {name} any more, which its graph reads: make a new Problem")
            made.append((name, modules.host_array(tensor)))
        return made + [(name, modules.host_array(tensor)) for name, tensor in exported.constants.items()]

    def loss(self, loss: Any) -> _core.Loss | CallableLoss:
        """Returns the library's loss for a loss of PyTorch, or the derivatives of any other callable."""
        if self._outputs is None or self._call is None:
            raise ModelError("a loss is taken of the module's outputs: give the data first")
        axis = self._export().axes[self._outputs.chosen]
        if axis is None:
            raise ModelError(f"the outputs of {self.name} have no axis of samples: it mixes the samples of a batch")
        shape = list(self._outputs.value.shape)
        rows = shape.pop(axis) // calls.EXAMPLE
        # As in [N·T, C]: a sample has several rows.
        merged = rows > 1
        if merged:
            shape.insert(axis, rows)
        self._loss = Loss(loss, tuple(shape), axis=axis, merged=merged, reduction=self.reduction, notes=self.notes)
        if not merged and axis == 0:
            check_targets(loss, self._targets, tuple(shape))
        return self._loss.taken

    def check(self, session: _core.Session, data: Data, loss: _core.Loss | CallableLoss, samples: Bounds) -> None:
        """Compares outputs, loss and gradient of the first samples with those of the module itself.

        Raises:
            CheckError: They differ; the message says where and by how much.
        """
        assert self._call is not None and self._outputs is not None
        function = self._loss.torch if self._loss is not None and self._loss.taken is loss else None
        targets = None if data.targets is None or function is None else checks.first(data.targets, samples)
        sources = dict(data.inputs) | self._unread if len(self._call.names) > 1 else {self._call.names[0]: data.inputs[0][1]}
        whole = Data([(name, checks.first(sources[name], samples)) for name in self._call.names], None, data.samples)
        inputs = calls.tensors(whole, 0, checks.COMPARED, self.real, floats=any(tensor.is_floating_point() for tensor in self._examples))
        inputs = [tensor.to(example.dtype) for tensor, example in zip(inputs, self._examples, strict=True)]
        doubles = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
        ours = checks.of_network(session, data, loss, samples, function is None)
        hint = "".join(f"; it cuts off gradients: {place}" for place in (self._exported.cuts[:3] if self._exported else []))

        def rough() -> checks.Own:
            arguments = self._call.arguments([self._place(tensor) for tensor in inputs], self.module)  # type: ignore[union-attr]
            return torch_checks.own(self.module, arguments, self._outputs.chosen, _single(function), targets)  # type: ignore[union-attr]

        exact = None
        if torch_checks.fits(self.module):
            # A module may compute in single precision only, by constants of its own.
            with contextlib.suppress(Exception):
                twin = modules.double(self.module)
                exact = torch_checks.own(twin, self._call.arguments(doubles, twin), self._outputs.chosen, function, targets)
        checks.compare(self.name, "module", session, ours, exact, rough, half=self._half, padding=self._padding, hint=hint)


def _single(loss: Any) -> Any:
    """Returns a loss in single precision, for outputs of it."""
    if loss is None:
        return None

    def converted(outputs: torch.Tensor, *targets: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = loss(outputs.double().cpu(), *(t.double().cpu() if t.is_floating_point() else t.cpu() for t in targets))
        return made

    return converted
