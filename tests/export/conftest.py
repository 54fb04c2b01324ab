"""Tiny classifiers to export, and their exports: tracing takes seconds, so each is traced once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import save_model, shallow

from hf_ser.export import export

EMOTIONS = ("angry", "happy", "neutral", "sad")


@pytest.fixture(scope="session")
def classifiers(
    encoders: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of `family-norm-head`, such as `wavlm-group-conv`."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            family, norm, head = kind.split("-")
            folder = tmp_path_factory.mktemp("classifier")
            encoder = shallow(encoders(family, norm), folder / "encoder")
            made[kind] = save_model(encoder, folder / kind, EMOTIONS, gain=30, head=head)
        return made[kind]

    return make


@pytest.fixture(scope="session")
def hubert(classifiers: Callable[[str], Path]) -> Path:
    return classifiers("hubert-group-stock")


@pytest.fixture(scope="session")
def exported(hubert: Path, made_once: Callable[..., Path]) -> Path:
    """That HuBERT, exported in float32."""
    return made_once("exported", lambda folder: export(hubert, folder))


@pytest.fixture(scope="session")
def copy_graph(exported: Path) -> Callable[[object, Path], object]:
    """In place of `write_graph`: writes the graph of `exported`, whatever the model."""
    return lambda recogniser, path: shutil.copy(exported / "model.onnx", path)


@pytest.fixture
def traced(copy_graph: Callable[[object, Path], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is exported in this test, the graph is that of `exported`."""
    monkeypatch.setattr("hf_ser.export.write_graph", copy_graph)


@pytest.fixture(scope="session")
def exported_int8(
    hubert: Path, copy_graph: Callable[[object, Path], object], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same in int8."""
    folder = tmp_path_factory.mktemp("exported") / "int8"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_ser.export.write_graph", copy_graph)
        export(hubert, folder, int8=True)
    return folder
