"""Writes `python/hessblock/_core.pyi`, the types of the compiled module, or compares it with what the module has.

    python stubs.py            writes the file
    python stubs.py --check    ends with an error where the file and the module differ

The types come from the Rust code: pyo3 leaves them in the module when it is built with the feature `stubs`, and
`maturin generate-stubs` reads them there. This script gives annotations that were written as text in a
`#[pyo3(signature = …)]` the names that they use, and refuses a function whose types are not known.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
STUB = HERE / "python/hessblock/_core.pyi"
# Names that annotations may use, and the modules that they come from.
MODULES = {
    "Any": "typing",
    "Callable": "collections.abc",
    "Final": "typing",
    "NDArray": "numpy.typing",
    "PathLike": "os",
    "Sequence": "collections.abc",
    "SupportsIndex": "typing",
    "TypeAlias": "typing",
    "final": "typing",
}
ALIASES = {
    "Source": "Source: TypeAlias = NDArray[Any] | str",
    "PartRow": "PartRow: TypeAlias = tuple[str, list[tuple[int, int]], list[tuple[int, int]] | None]",
    "Progress": "Progress: TypeAlias = Callable[[int, int], object] | None",
}
# What pyo3 says of arguments and of containers, in words that tell more.
PLAIN = {
    "SupportsIndex": "int",
    "SupportsFloat": "float",
    "dict": "dict[str, Any]",
    "list": "list[Any]",
    "tuple": "tuple[Any, ...]",
}


class Annotations(ast.NodeTransformer):
    """Takes annotations out of their quotes, puts them into plainer words, and notes what has no type."""

    def __init__(self) -> None:
        self.place: list[str] = []
        self.untyped: list[str] = []

    def annotation(self, node: ast.expr | None, what: str) -> ast.expr | None:
        if node is None:
            return None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        if any(isinstance(part, ast.Name) and part.id == "Incomplete" for part in ast.walk(node)):
            self.untyped.append(".".join([*self.place, what]))
        return plain(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.place.append(node.name)
        self.generic_visit(node)
        self.place.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.place.append(node.name)
        arguments = node.args
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
            if argument is not None:
                argument.annotation = self.annotation(argument.annotation, argument.arg)
        node.returns = self.annotation(node.returns, "the result")
        self.place.pop()
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = self.annotation(node.annotation, ast.unparse(node.target)) or node.annotation
        return node


def plain(node: ast.expr) -> ast.expr:
    """Puts a type into plainer words: int for SupportsIndex, Sequence for SupportsGetItem, dict[str, Any] for dict."""

    class Words(ast.NodeTransformer):
        def visit_Subscript(self, node: ast.Subscript) -> ast.Subscript:
            node.slice = self.visit(node.slice)
            if isinstance(node.value, ast.Name) and node.value.id == "SupportsGetItem" and isinstance(node.slice, ast.Tuple):
                return ast.Subscript(ast.Name("Sequence"), node.slice.elts[1])
            return node

        def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
            # A number with a point may be given as an integer anyway.
            if ast.unparse(node) == "SupportsFloat | SupportsIndex":
                return ast.Name("float")
            self.generic_visit(node)
            return node

        def visit_Name(self, node: ast.Name) -> ast.expr:
            return ast.parse(PLAIN[node.id], mode="eval").body if node.id in PLAIN else node

    words: ast.expr = Words().visit(node)
    return words


def finish(generated: str) -> str:
    """Returns the stub that is committed for what `maturin generate-stubs` gave."""
    annotations = Annotations()
    tree = ast.parse(generated)
    if any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body):
        sys.exit("the module's `#[pymodule_init]` takes the module, so that nobody knows all its names: export them by `#[pymodule_export]`")
    tree = annotations.visit(tree)
    if annotations.untyped:
        places = "\n  ".join(annotations.untyped)
        sys.exit(f"these have no types; write them into their #[pyo3(signature = …)]:\n  {places}")
    taken = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name)}
    aliases = list(ALIASES.values())
    for line in aliases:
        taken |= {name.id for name in ast.walk(ast.parse(line)) if isinstance(name, ast.Name)}
    imports = []
    for module in sorted(set(MODULES.values())):
        names = sorted(name for name in taken if MODULES.get(name) == module)
        if names:
            imports.append(f"from {module} import {', '.join(names)}")
    if "np" in taken:
        imports.append("import numpy as np")
    docstring = ast.get_docstring(tree)
    body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    if docstring is not None:
        body.pop(0)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value = ast.Constant(inspect.cleandoc(node.value.value))
    head = [f'"""{docstring or "The compiled module."}"""', "# Written by python/stubs.py: the types are in the Rust code.", ""]
    rest = ast.unparse(ast.Module(body=body, type_ignores=[]))
    return "\n".join([*head, *imports, "", *aliases, "", rest, ""])


def generate(arguments: list[str]) -> str:
    """Builds the module with its types in it and returns what maturin reads there."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["maturin", "generate-stubs", "--quiet", "--features", "stubs", "--out", folder, *arguments]
        subprocess.run(command, cwd=HERE, check=True)
        (stub,) = Path(folder).rglob("_core.pyi")
        return stub.read_text("utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    options, arguments = parser.parse_known_args()
    stub = finish(generate(arguments or ["--locked", "--profile", "dev"]))
    if not options.check:
        STUB.write_text(stub, "utf-8")
        return
    present = STUB.read_text("utf-8") if STUB.exists() else ""
    if ast.dump(ast.parse(present)) != ast.dump(ast.parse(stub)):
        lines = difflib.unified_diff(present.splitlines(), stub.splitlines(), "committed", "module", lineterm="")
        sys.exit("\n".join([*lines, f"{STUB} is not what the module has: run python stubs.py"]))


if __name__ == "__main__":
    main()
