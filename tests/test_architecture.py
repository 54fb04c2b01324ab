"""A clip passes through the package front to back: a module imports only from the modules before it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_ser"
ORDER = [
    "wording",
    "command_line",
    "cache",
    "records",
    "machine",
    "emotions",
    "results",
    "modeling",
    "encoders",
    "corpora",
    "audio",
    "annotations",
    "clips",
    "splits",
    "targets",
    "features",
    "streaming",
    "models",
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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_the_modules_before_it(path: Path) -> None:
    module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        if name.startswith("hf_ser."):
            assert ORDER.index(name.split(".")[1]) <= ORDER.index(module), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_torchaudio_can_be_replaced_in_one_place(path: Path) -> None:
    """Trap: torchaudio is in maintenance, and ends at 2.11."""
    if "audio" not in path.relative_to(PACKAGE).parts:
        assert not any(name.split(".")[0] == "torchaudio" for name in imports(path))


def test_torch_and_torchaudio_go_together() -> None:
    import torch
    import torchaudio

    assert torch.__version__.split("+")[0] == torchaudio.__version__.split("+")[0]
