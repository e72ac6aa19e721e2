"""An `nn.Module` as an ONNX graph without weights, made in memory."""

from __future__ import annotations

import gc
import io
import logging
import re
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ._errors import ModelError, UnsupportedError
from ._text import first_line
from ._torch_module import clean, eager, evaluation

# Their console messages are about the exporter's own working.
NOISY = ("torch.onnx", "torch.export", "torch._export", "torch.fx", "torch._dynamo", "torch._functorch", "torch._subclasses",
         "onnxscript", "onnx_ir")  # fmt: skip

# The entry of a node's metadata that lists the modules around it, from the outside to the inside, and then the operation.
SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass
class Exported:
    """A module's graph."""

    proto: bytes
    """ONNX; all initializers are inputs of the graph."""
    inputs: list[str]
    """The names of the data's inputs, in the order of the tensors of the call."""
    unread: list[str]
    """Those of them that no output depends on."""
    outputs: list[str]
    axes: list[int | None]
    """The axis of each output that grows with the number of samples; None if none does."""
    weights: list[str]
    """The names of the module's tensors that the graph reads, as the module has them now (`torch.compile`'s components gone)."""
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    """The other tensors that the graph reads, by their names in the graph."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Names in the graph that are not those of the module: graph -> module."""
    cuts: list[str] = field(default_factory=list)
    """Where the forward pass cuts off the gradient of a parameter (`detach`, `no_grad`), which ONNX cannot express."""


def export(
    module: nn.Module, call: tuple[tuple[Any, ...], dict[str, Any]], names: Sequence[str], outputs: Sequence[str], taken: set[str]
) -> Exported:
    """Exports a module for any number of samples.

    `call` holds the arguments of `forward` for a few samples, with the samples on the first axis of every tensor; `names` are the
    names of these tensors in the graph and `outputs` those of the tensors that the module returns. No other value of the graph
    has a name in `taken`.

    Raises:
        ModelError: A batch is baked in, or control flow depends on data.
        UnsupportedError: There are operations that have no form in ONNX; all are listed.
    """
    with prepared(module):
        program = trace(module, call)
        graph = translate(program, module)
    found = Exported(b"", list(names), [], list(outputs), [], [], cuts=cuts(program))
    rename(graph, program, call, found, taken)
    for node in graph.graph:
        # Messages name the module of a node by its scopes; the rest says which lines of which file it came from.
        scopes = re.findall(r"'([^']*)'", node.metadata_props.get(SCOPES, ""))
        node.metadata_props.clear()
        node.metadata_props[SCOPES] = repr([clean(scope) for scope in scopes])
    import onnx_ir

    found.proto = onnx_ir.serde.serialize_model(graph).SerializeToString()
    return found


@contextmanager
def prepared(module: nn.Module) -> Iterator[None]:
    """A block in which a module can be exported: in evaluation mode, eager, and nothing is printed."""
    # A pool over a permuted tensor is otherwise written as a look-up in all samples at once (as_strided).
    pools = [part for part in module.modules() if isinstance(part, nn.AdaptiveAvgPool2d)]
    hooks = [pool.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),)) for pool in pools]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # Its operation has no form in ONNX.
    try:
        with quiet(), paused_collection(), evaluation(module), eager(), torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()


@contextmanager
def quiet() -> Iterator[None]:
    """A block in which the exporter prints, logs and warns of nothing."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def paused_collection() -> Iterator[None]:
    """A block without garbage collections. A first export makes a million objects, most of them for good, and going through them again
    and again takes a third of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if gc.get_freeze_count() == 0:
                # Moves all objects to the oldest generation, which the next full collection goes through.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def trace(module: nn.Module, call: tuple[tuple[Any, ...], dict[str, Any]]) -> torch.export.ExportedProgram:
    """Traces a module by `torch.export`, for any number of samples."""
    arguments, keywords = call
    batch = torch.export.Dim("batch")
    shapes = pytree.tree_map(lambda leaf: {0: batch} if isinstance(leaf, torch.Tensor) else None, (arguments, keywords))
    # One entry for every argument, whether it is given by position or by name.
    dynamic: Any = tuple(shapes[0]) if not keywords else {**dict(zip(_positional(module), shapes[0], strict=False)), **shapes[1]}
    try:
        program = torch.export.export(module, arguments, keywords, dynamic_shapes=dynamic, strict=False)
        if hasattr(program, "_guards_code"):  # checks of shapes at run time, which fail for arguments in **keywords (torch 2.15)
            program._guards_code = []
        return program
    except Exception as error:
        raise _trace_error(module, call, error) from error


def _positional(module: nn.Module) -> list[str]:
    import inspect

    return list(inspect.signature(module.forward).parameters)


def _trace_error(module: nn.Module, call: tuple[tuple[Any, ...], dict[str, Any]], error: Exception) -> ModelError:
    """Returns the plain form of an error of `torch.export`."""
    label, text, where = type(module).__name__, str(error), user_frame(error)
    kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
    baked = re.search(r"specialized it to be a constant \((\d+)\)", text)
    if baked or "Constraints violated" in text or re.search(r"invalid for input of size .*s\d", text):
        return ModelError(
            f"{label} works for a fixed batch only{where or failing_line(module, call)}: its code must take the number of samples from "
            "its inputs, such as x.view(x.shape[0], -1) or x.flatten(1)"
        )
    if "DataDependent" in kinds or "data-dependent" in text or "DynamicOutputShape" in kinds:
        return ModelError(
            f"the forward pass of {label} depends on values, not only on shapes (a Python condition, a loop, int() or .item() on a "
            f"tensor, or a shape that depends on values){where}: write it with torch.where, masks or multiplications"
        )
    return ModelError(f"torch.export cannot trace {label}{where}: {first_line(text) or type(error).__name__}")


def failing_line(module: nn.Module, call: tuple[tuple[Any, ...], dict[str, Any]]) -> str:
    """Returns the line at which a module fails for other numbers of samples than those of `call`, or nothing."""
    for samples in (3, 5, 7):
        several = pytree.tree_map(
            lambda leaf: torch.cat([leaf] * samples)[:samples] if isinstance(leaf, torch.Tensor) else leaf,  # noqa: B023
            call,
        )
        try:
            with torch.no_grad():
                module(*several[0], **several[1])
        except Exception as error:
            return user_frame(error)
    return ""


def user_frame(error: BaseException) -> str:
    """Returns ` (FILE:LINE: code)` of the last line of the user's own code that an error passed, or nothing."""
    own = (str(Path(torch.__file__).parent), str(Path(__file__).parent), str(Path(traceback.__file__).parent))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(own) and not frame.filename.startswith("<"):
            return f" ({frame.filename}:{frame.lineno}: {frame.line})"
    return ""


def translate(program: torch.export.ExportedProgram, module: nn.Module) -> Any:
    """Returns the ONNX model (of onnx_ir) of a traced module."""
    label = type(module).__name__
    try:
        made = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False)
    except ModuleNotFoundError as error:
        raise ModelError(f"exporting {label} needs the package {error.name}: pip install 'hessblock[torch]'") from error
    except Exception as error:
        nodes = unsupported(program) or re.findall(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error))
        if nodes:
            raise UnsupportedError(
                f"{label} has operations that PyTorch cannot write as ONNX:\n" + "\n".join(f"  {node}" for node in nodes), nodes=nodes
            ) from error
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ModelError(f"torch.onnx.export cannot write {label}: {first_line(str(cause))}") from error
    if made is None:
        raise ModelError(f"torch.onnx.export gave nothing for {label}")
    return made.model


def unsupported(program: torch.export.ExportedProgram) -> list[str]:
    """Returns all operations of a program that have no form in ONNX, with the paths of their modules."""
    try:  # The exporter itself stops at the first; its registry is no public interface.
        from torch.onnx._internal.exporter import _fx_passes, _registration

        registry = _registration.ONNXRegistry.from_torchlib()
        nodes = _fx_passes.decompose_with_registry(program, registry).graph.nodes
        lacking = [node for node in nodes if isinstance(node.target, torch._ops.OpOverload) and not registry.get_decomps(node.target)]
    except Exception:
        return []
    found: dict[str, None] = {}
    for node in lacking:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = clean(stack[-1][0]) if stack else ""
        frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
        own = [f"{file}:{line}" for file, line in frames if not file.startswith(str(Path(torch.__file__).parent))]
        name = str(node.target).removesuffix(".default")
        found[f"{name} in {path or 'the module itself'}{f' ({own[-1]})' if own else ''}"] = None
    return list(found)


def cuts(program: torch.export.ExportedProgram) -> list[str]:
    """Returns the places where a program cuts off the gradient of something that depends on a parameter."""
    from torch.export.graph_signature import InputKind

    reached = {spec.arg.name for spec in program.graph_signature.input_specs
               if spec.kind == InputKind.PARAMETER and _trainable(program, spec.target)}  # fmt: skip
    found: dict[str, None] = {}
    for node in program.graph.nodes:
        if node.op != "call_function" or not any(source.name in reached for source in node.all_input_nodes):
            continue
        value = node.meta.get("val")
        whole = isinstance(value, torch.Tensor) and not value.is_floating_point()
        target = str(node.target)
        ungraded = "set_grad_enabled" in target and node.args[0] is False
        if target in ("aten.detach.default", "aten.detach_.default") or ungraded:
            frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
            word = "no_grad" if ungraded else "detach"
            found[f"{word} at {frames[-1][0]}:{frames[-1][1]}" if frames else word] = None
        elif not whole:
            reached.add(node.name)
    return list(found)


def _trainable(program: torch.export.ExportedProgram, target: str | None) -> bool:
    tensor = program.state_dict.get(target or "")
    return tensor is not None and bool(tensor.requires_grad)


def rename(
    model: Any, program: torch.export.ExportedProgram, call: tuple[tuple[Any, ...], dict[str, Any]], found: Exported, taken: set[str]
) -> None:
    """Turns a graph's initializers into inputs, and gives every value a name of its own: the exporter does not see to that."""
    from torch.export.graph_signature import InputKind

    graph = model.graph
    specs = [spec for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
    leaves, _ = pytree.tree_flatten(call)
    names = iter(found.inputs)
    named = {spec.arg.name: next(names) for spec, leaf in zip(specs, leaves, strict=True) if isinstance(leaf, torch.Tensor)}
    for value in list(graph.inputs):
        value.name = named[value.name]
        if not value.uses() and not value.is_graph_output():
            found.unread.append(value.name)
            graph.inputs.remove(value)
    made = {id(value): value for node in graph for value in node.outputs}
    for k, value in enumerate(graph.outputs):
        if id(value) in made:  # else it is an input or a weight, whose name stays
            value.name = found.outputs[k]
    found.outputs = [value.name for value in graph.outputs]
    for value in graph.outputs:
        grows = [axis for axis, extent in enumerate(value.shape or ()) if not isinstance(extent, int)]
        found.axes.append(grows[0] if grows else None)
    initializers = list(graph.initializers.values())
    graph.initializers.clear()
    used = taken | set(found.inputs) | set(found.outputs)
    held = {spec.target for spec in program.graph_signature.input_specs if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER)}
    for value in initializers:
        name = clean(value.name)
        if value.name in held:
            found.weights.append(name)
            if name != value.name:
                found.aliases[value.name] = name
        else:
            value.name = unique(name, used)
            found.constants[value.name] = _tensor(value, program, name)
        value.const_value = None
        graph.inputs.append(value)
    for value in graph.outputs:
        made.pop(id(value), None)
    for value in made.values():
        if value.name:
            value.name = unique(value.name, used)


def _tensor(value: Any, program: torch.export.ExportedProgram, name: str) -> torch.Tensor:
    """Returns the values of an initializer that is no tensor of the module's state."""
    held = program.constants.get(name)
    if isinstance(held, torch.Tensor):
        return held.detach()
    raw = value.const_value.raw
    return raw.detach() if isinstance(raw, torch.Tensor) else torch.as_tensor(value.const_value.numpy())


def unique(name: str, used: set[str]) -> str:
    """Returns a name that is not in `used`, and puts it there."""
    made, number = name, 1
    while made in used:
        made, number = f"{name}_{number}", number + 1
    used.add(made)
    return made
