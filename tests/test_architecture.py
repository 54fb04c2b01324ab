"""A clip passes through the package front to back: a module imports only from the modules before it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_ser"
ORDER = [
    "wording",
    "memory",
    "command_line",
    "cache",
    "claims",
    "records",
    "machine",
    "emotions",
    "results",
    "corpora",
    "audio",
    "targets",
    "clips",
    "splits",
    "modeling",
    "tuning",
    "evaluation",
    "rendering",
    "hub",
    "training",
    "inference",
    "pipeline",
    "export",
    "report",
    "app",
    "cli",
]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_a_module_imports_from_the_modules_before_it() -> None:
    for path in MODULES:
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imports(path):
            if name.startswith("hf_ser."):
                assert ORDER.index(name.split(".")[1]) <= ORDER.index(module), f"{path} imports {name}"


@pytest.mark.parametrize(("package", "room"), [("torchaudio", "audio"), ("gradio", "app")])
def test_a_package_that_may_be_missing_or_replaced_is_imported_in_one_place(package: str, room: str) -> None:
    """Trap: torchaudio is in maintenance, and ends at 2.11; and what is imported by the way is not optional."""
    found = {p.relative_to(PACKAGE).parts[0] for p in MODULES for name in imports(p) if name.split(".")[0] == package}
    assert found == {room}
    assert not any(name.startswith("hf_ser.app") for name in imports(PACKAGE / "__init__.py"))


def test_torch_and_torchaudio_go_together() -> None:
    import torch
    import torchaudio

    assert torch.__version__.split("+")[0] == torchaudio.__version__.split("+")[0]
