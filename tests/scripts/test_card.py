"""scripts/card.py, and what it needs of the package as it is installed."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hf_ser.hub.card import TEMPLATE, write_card
from hf_ser.hub.privacy import find_private

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

REPOSITORY = Path(__file__).parents[2]
RESULTS = {
    "emotions": ["angry", "sad"],
    "method": "lora_classifier",
    "metrics": {"test": {"clips": 4, "uar": 0.75, "eer": 0.25, "confusion_matrix": [[2, 0], [1, 1]]}},
    "split": {"name": "speaker", "parts": {"train": {"clips": 8}, "test": {"clips": 4}}},
    "kept": {"by": "uar on validation", "value": 0.8, "epoch": 2.0},
    "history": [{"epoch": 1.0, "loss": 0.7, "eval_uar": 0.5, "eval_eer": None}, {"epoch": 2.0, "eval_uar": 0.8}],
}


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
        (tmp_path / name / "results.json").write_text(json.dumps(RESULTS))
    return [tmp_path / "a", tmp_path / "b"]


def test_cards_and_plots_are_made_of_results_alone(
    folders: list[Path], card: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert card(*folders) == 0
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {
            "README.md", "confusion_matrix.png", "results.json", "training_curves.png"
        }  # fmt: skip
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "](confusion_matrix.png)" in card
        assert "](training_curves.png)" in card
    assert capsys.readouterr().out.splitlines() == [f"{folder / 'README.md'} is written" for folder in folders]


def test_what_is_given_is_in_the_card(folders: list[Path], card: Callable[..., int]) -> None:
    given = ("--model_id", "someone/model", "--license", "mit", "--language", "de", "--base_model", "someone/hubert")
    assert card(folders[0], *given) == 0
    made = (folders[0] / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(made.split("---\n")[1])
    assert metadata["license"] == "mit"
    assert metadata["language"] == ["de"]
    assert metadata["base_model"] == "someone/hubert"
    assert 'model="someone/model"' in made


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no results.json; give the folder of a finished run"),
        ("{", "results.json: not as hf_ser writes it, but no JSON"),
        ('{"method": "full"}', "these results are not those of a run: they lack emotions, metrics, split"),
        ("[]", "results.json: not as hf_ser writes it"),
        (
            json.dumps({**RESULTS, "metrics": {"test": {"uar": 0.5, "intervals": {"clips": {"uar": [0.4, 0.6]}}}}}),
            "results.json: not as hf_ser writes it",
        ),
        (
            json.dumps({**RESULTS, "split": {"name": "speaker", "parts": {"train": None, "test": None}}}),
            "results.json: not as hf_ser writes it",
        ),
    ],
)
def test_a_folder_that_holds_no_run_is_told_and_the_others_are_made(
    content: str | None, message: str, folders: list[Path], card: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[0] / "results.json").unlink()
    if content is not None:
        (folders[0] / "results.json").write_text(content)
    assert card(*folders) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {folders[0]}")
    assert message in told
    assert (folders[1] / "README.md").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model_id", "someone/model"], "--model_id: a name belongs to one model; give one folder"),
        (["--base_model", "hubert"], "--base_model: 'hubert' is no name on the Hub; write it as user/name"),
    ],
)
def test_options_that_do_not_fit(
    options: list[str], message: str, folders: list[Path], card: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        card(*folders, *options)
    assert message in capsys.readouterr().err


def test_every_package_and_the_template_are_in_the_wheel() -> None:
    setuptools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    there = {
        ".".join(path.parent.relative_to(REPOSITORY).parts) for path in (REPOSITORY / "hf_ser").rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == there | {"hf_ser.model_cards"}
    folder = setuptools["package-dir"]["hf_ser.model_cards"]
    for name in setuptools["package-data"]["hf_ser.model_cards"]:
        assert (REPOSITORY / folder / name).is_file()
    assert f"{folder}/template.md" == TEMPLATE
    assert "template.md" in setuptools["package-data"]["hf_ser.model_cards"]


EXAMPLES = sorted((Path(__file__).parents[2] / "model_cards").glob("*/results.json"))


@pytest.mark.parametrize("results", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_example_cards_are_what_it_writes(results: Path, tmp_path: Path) -> None:
    """Whoever changes the template runs `make cards`."""
    copy = Path(shutil.copytree(results.parent, tmp_path / results.parent.name))
    (copy / "README.md").unlink()
    write_card(json.loads(results.read_text(encoding="utf-8")), copy)
    assert (copy / "README.md").read_text(encoding="utf-8") == (results.parent / "README.md").read_text(
        encoding="utf-8"
    )
    for path in results.parent.iterdir():
        if path.suffix in (".md", ".json"):
            assert find_private(path.read_text(encoding="utf-8")) is None
