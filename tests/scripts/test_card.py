"""scripts/card.py, and what it needs of the package as it is installed."""

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

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
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the script in this process, as from the command line."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["card.py", *map(str, arguments)])
        code: int = runpy.run_path(str(REPOSITORY / "scripts/card.py"))["main"]()
        return code

    return run


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(EXAMPLES[0], tmp_path / name)
    return [tmp_path / "a", tmp_path / "b"]


def test_cards_and_plots_are_made_of_results_alone(
    folders: list[Path], card: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert card(*folders) == 0
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {
            "README.md", "confusion_matrix.png", "results.json", "training_curves.png"
        }  # fmt: skip
        made = (folder / "README.md").read_text(encoding="utf-8")
        assert "](confusion_matrix.png)" in made
        assert "](training_curves.png)" in made
    assert capsys.readouterr().out.splitlines() == [f"{folder / 'README.md'} is written" for folder in folders]


def test_what_is_given_is_in_the_card(folders: list[Path], card: Callable[..., int]) -> None:
    given = ("--model_id", "someone/model", "--license", "mit", "--language", "de", "--base_model", "someone/hubert")
    assert card(folders[0], *given) == 0
    made = (folders[0] / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(made.split("---\n")[1])
    assert (metadata["license"], metadata["language"], metadata["base_model"]) == ("mit", ["de"], "someone/hubert")
    assert 'model="someone/model"' in made


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "results.json: not as hf_ser writes it, but no JSON"),
        ('{"method": "full"}', "results.json: not as hf_ser writes it: it has no base_model"),
    ],
)
def test_a_folder_without_a_run_fails_and_the_others_are_made(
    content: str | None, message: str, folders: list[Path], card: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[0] / "results.json").unlink()
    if content is not None:
        (folders[0] / "results.json").write_text(content)
    assert card(*folders) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert (folders[1] / "README.md").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model_id", "someone/model"], "--model_id: a name belongs to one model; give one folder"),
        (["--base_model", "hubert"], "--base_model: 'hubert' is no name on the Hub; write it as user/name"),
    ],
)
def test_invalid_options(
    options: list[str], message: str, folders: list[Path], card: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        card(*folders, *options)
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
