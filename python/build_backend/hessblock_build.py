"""The build backend of the Python package: maturin's, and the `hessblock` command beside the module.

The compiled module is the library without its command line. The command is the program of the root crate, built before
the wheel with the same profile and in the same target folder, and put into the wheel's scripts. Everything else is
left to maturin, whose arguments (`MATURIN_PEP517_ARGS`, or `build-args` of the configuration) apply to both.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import maturin

COMMAND = "hessblock"
# Where maturin looks for what goes into the wheel's scripts.
SCRIPTS = Path("hessblock._core.data/scripts")
# The options of maturin that are also options of `cargo build`, and whether a value follows.
SHARED = {
    "--profile": True,
    "--target": True,
    "--target-dir": True,
    "--jobs": True,
    "-j": True,
    "--config": True,
    "--offline": False,
    "--frozen": False,
    "--release": False,
    "-r": False,
}
# Files of the root crate that belong into every distribution.
LICENCES = ("LICENSE-APACHE", "LICENSE-MIT", "assets/DejaVuSans-LICENSE.txt")

# Symbols are most of what a module and a program weigh.
os.environ.setdefault("MATURIN_STRIP", "true")

get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_editable = maturin.get_requires_for_build_editable
get_requires_for_build_sdist = maturin.get_requires_for_build_sdist


def build_wheel(directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None) -> str:
    """Builds the command, then the wheel that carries it; returns the wheel's name."""
    copy_licences()
    build_command(config_settings, editable=False)
    return str(maturin.build_wheel(directory, config_settings, metadata_directory))


def build_editable(
    directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """As `build_wheel`, for `pip install --editable`."""
    copy_licences()
    build_command(config_settings, editable=True)
    return str(maturin.build_editable(directory, config_settings, metadata_directory))


def build_sdist(directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    """Writes the source distribution: both crates, the Python sources and this backend."""
    copy_licences()
    return str(maturin.build_sdist(directory, config_settings))


def prepare_metadata_for_build_wheel(directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    """Writes the metadata of the wheel without building it."""
    copy_licences()
    return str(maturin.prepare_metadata_for_build_wheel(directory, config_settings))


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def build_command(config_settings: Mapping[str, Any] | None, *, editable: bool) -> None:
    """Builds the program of the root crate and puts it into the folder of scripts that maturin packs."""
    arguments = cargo_arguments(maturin.get_maturin_pep517_args(config_settings), editable=editable)
    cargo = ["cargo", "build", "--locked", "--bin", COMMAND, "--manifest-path", str(root_crate() / "Cargo.toml")]
    command = [*cargo, *arguments, "--message-format", "json-render-diagnostics"]
    print("Running `{}`".format(shlex.join(command)), flush=True)
    result = subprocess.run(command, stdout=subprocess.PIPE, env=environment(), check=False)
    if result.returncode != 0:
        sys.exit(f"the {COMMAND} command could not be built: cargo ended with status {result.returncode}")
    messages = [json.loads(line) for line in result.stdout.splitlines() if line.startswith(b"{")]
    programs = [message["executable"] for message in messages if message.get("executable")]
    if not programs:
        sys.exit(f"cargo built no program called {COMMAND}")
    shutil.rmtree(SCRIPTS, ignore_errors=True)
    SCRIPTS.mkdir(parents=True)
    program = SCRIPTS / Path(programs[-1]).name
    shutil.copy2(programs[-1], program)
    strip(program)


def environment() -> dict[str, str] | None:
    """Returns the environment that maturin runs cargo in, which may have a Rust of its own; the process's where it has no such thing."""
    # A private function of maturin's: a version without it builds with the Rust of the PATH.
    own: Callable[[], dict[str, str]] | None = getattr(maturin, "_get_env", None)
    return None if own is None else own()


def strip(program: Path) -> None:
    """Removes the symbols of the program where the system has `strip`; maturin has stripped the module."""
    tool = shutil.which("strip")
    if os.environ["MATURIN_STRIP"] == "true" and tool is not None and os.name != "nt":
        subprocess.run([tool, *(["-x"] if sys.platform == "darwin" else []), str(program)], check=False)


def cargo_arguments(arguments: list[str], *, editable: bool) -> list[str]:
    """Returns those of maturin's arguments that `cargo build` has to be given for the same profile and target folder.

    Without a profile among them it is the one of `[tool.maturin]`, else release, as in maturin.
    """
    taken: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            break
        name, equals, _ = argument.partition("=")
        if name not in SHARED:
            continue
        taken.append(argument)
        if SHARED[name] and not equals:
            taken.extend(value for value in [next(rest, None)] if value is not None)
    if not any(argument.partition("=")[0] in ("--profile", "--release", "-r") for argument in taken):
        options = settings()
        profile = (options.get("editable-profile") if editable else None) or options.get("profile", "release")
        taken += ["--profile", profile]
    return taken


def settings() -> dict[str, Any]:
    """Returns `[tool.maturin]` of the pyproject.toml in the current folder, where frontends call a backend."""
    with open("pyproject.toml", "rb") as file:
        options: dict[str, Any] = tomllib.load(file)["tool"]["maturin"]
    return options


def root_crate() -> Path:
    """Returns the folder of the crate that has the program: the parent folder in a clone, the current one in an sdist."""
    for folder in (Path(".."), Path(".")):
        manifest = folder / "Cargo.toml"
        if manifest.is_file():
            package = tomllib.loads(manifest.read_text("utf-8")).get("package", {})
            if package.get("name") == COMMAND:
                return folder.resolve()
    sys.exit(f"no crate called {COMMAND} lies here or above: {Path.cwd()} is neither python/ of a clone nor an sdist")


def copy_licences() -> None:
    """Copies the licences into a folder beside pyproject.toml, which may name only files below it."""
    root = root_crate()
    folder = Path("licences")
    folder.mkdir(exist_ok=True)
    for licence in LICENCES:
        shutil.copyfile(root / licence, folder / Path(licence).name)
