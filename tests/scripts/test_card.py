"""scripts/card.py, and what it needs of the package as it is installed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import setuptools
import yaml

from hf_ser.hub.card import write_card
from hf_ser.hub.privacy import find_private
from hf_ser.results import RunResults

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = sorted((REPOSITORY / "model_cards").glob("*/results.json"))


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(EXAMPLES[0], tmp_path / name)
    return [tmp_path / "a", tmp_path / "b"]


def test_cards_and_plots_are_made_of_results_alone(folders: list[Path], run_script: Callable[..., Any]) -> None:
    (folders[1] / "results.json").write_text("{")
    done = run_script("card", *folders[::-1])  # one that fails stops no other
    assert (done.returncode, done.stdout) == (1, f"{folders[0] / 'README.md'} is written\n")
    assert done.stderr.startswith("error: ")
    assert {path.name for path in folders[0].iterdir()} == {
        "README.md", "confusion_matrix.png", "results.json", "training_curves.png"
    }  # fmt: skip
    made = (folders[0] / "README.md").read_text(encoding="utf-8")
    assert "](confusion_matrix.png)" in made
    assert "](training_curves.png)" in made


def test_what_is_given_is_in_the_card(
    folders: list[Path], run_script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_ser.cli.card.draw_run", lambda results, folder: None)
    given = ("--model_id", "someone/model", "--license", "mit", "--language", "de", "--base_model", "someone/hubert")
    assert run_script("card", folders[0], *given).returncode == 0
    made = (folders[0] / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(made.split("---\n")[1])
    assert (metadata["license"], metadata["language"], metadata["base_model"]) == ("mit", ["de"], "someone/hubert")
    assert 'model="someone/model"' in made


def test_the_results_stand_for_their_folder(
    folders: list[Path], run_script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_ser.cli.card.draw_run", lambda results, folder: (folder / "plot.png").touch())
    done = run_script("card", folders[0] / "results.json")
    assert (done.returncode, done.stdout) == (0, f"{folders[0] / 'README.md'} is written\n")
    assert {path.name for path in folders[0].iterdir()} == {"README.md", "plot.png", "results.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model_id", "someone/model"], "--model_id: a name belongs to one model; give one folder"),
        (["--base_model", "hubert"], "--base_model: 'hubert' is no name on the Hub; write it as user/name"),
    ],
)
def test_invalid_options(
    options: list[str], message: str, folders: list[Path], run_script: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    with pytest.raises(SystemExit):
        run_script("card", *folders, *options)
    assert message in capsys.readouterr().err


def test_every_package_and_template_is_in_the_wheel() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = set(setuptools.find_packages(str(REPOSITORY), **settings["packages"]["find"]))
    modules = (REPOSITORY / "hf_ser").rglob("*.py")
    assert found >= {".".join(path.parent.relative_to(REPOSITORY).parts) for path in modules}
    data = {
        REPOSITORY / package.replace(".", "/") / name
        for package, names in settings["package-data"].items()
        for name in names
    }
    data = {path for pattern in data for path in pattern.parent.glob(pattern.name)}
    others = {
        path for path in (REPOSITORY / "hf_ser").rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert data == others


@pytest.mark.parametrize("results", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_example_cards_are_what_it_writes(results: Path, tmp_path: Path) -> None:
    """Whoever changes the template runs `make cards`."""
    copy = Path(shutil.copytree(results.parent, tmp_path / results.parent.name))
    (copy / "README.md").unlink()
    write_card(RunResults.read(results), copy)
    assert (copy / "README.md").read_text(encoding="utf-8") == (results.parent / "README.md").read_text(
        encoding="utf-8"
    )
    for path in results.parent.iterdir():
        if path.suffix in (".md", ".json"):
            assert find_private(path.read_text(encoding="utf-8")) is None
