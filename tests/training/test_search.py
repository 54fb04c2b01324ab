"""A search for hyperparameters."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

optuna = pytest.importorskip("optuna", reason="the search needs Optuna: pip install 'hf_ser[search]'")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402

from hf_ser.claims import sole_use  # noqa: E402
from hf_ser.evaluation import DivergedError  # noqa: E402
from hf_ser.splits import SplitError  # noqa: E402
from hf_ser.training import parse_arguments, search  # noqa: E402
from hf_ser.training.arguments import given_arguments  # noqa: E402
from hf_ser.training.data import load_splits  # noqa: E402

Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def words(run_words: Callable[..., list[str]], tmp_path: Path) -> list[str]:
    return run_words(tmp_path / "search", "--method", "lora_qkv", "--bf16", "False")


def test_a_search_goes_on_and_ends_in_a_recipe(
    words: list[str], tmp_path: Path, run_script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "search"
    used = []
    finetune = search.finetune
    monkeypatch.setattr(
        search, "finetune", lambda arguments: used.append(arguments.script.splits) or finetune(arguments)
    )
    words += ["--inner_folds", "2", "--space", "learning_rate=1e-4:1e-2:log", "lora_r=2,4", "num_train_epochs=1:1"]
    assert run_script("search", *words, "--trials", "1").returncode == 0
    assert len(used) == 2
    done = run_script("search", *words, "--trials", "2")
    assert done.returncode == 0, done.stderr
    assert len(used) == 4
    *table, _, last = done.stdout.splitlines()
    assert table[0] == "| trial | UAR | learning_rate | lora_r | num_train_epochs |"
    assert len(table) == 4
    assert str(root / "best.yaml") in last
    rates = {row.split(" | ")[2] for row in table[2:]}
    assert len(rates) == 2  # the second trial does not repeat the first one

    best = parse_arguments(["--config", str(root / "best.yaml"), "--output_dir", str(tmp_path / "best")])
    assert best.tuning.method == "lora_qkv"
    assert best.tuning.lora_r == int(table[2].split(" | ")[3])
    assert f"{best.training.learning_rate:.3g}" == table[2].split(" | ")[2]
    assert best.script.emotions == ["angry", "sad", "happy"]

    names = {part: set(clips["clip"]) for part, clips in load_splits(best.script, 400).items()}
    tested: list[str] = []
    for file in sorted(root.glob("inner-*.json")):
        parts = json.loads(file.read_text())["parts"]
        inner = [name for part in parts.values() for name in part]
        assert len(inner) == len(set(inner)) == len(names["train"])
        assert not set(inner) & (names["validation"] | names["test"])
        speakers = [{name.split("_")[0] for name in part} for part in parts.values()]
        assert not speakers[0] & speakers[1] | speakers[0] & speakers[2] | speakers[1] & speakers[2]
        tested += parts["test"]
    assert sorted(tested) == sorted(names["train"])
    assert {Path(file).name for file in used} == {"inner-0.json", "inner-1.json"}
    assert not [path for path in root.rglob("*") if path.is_dir() or path.suffix == ".safetensors"]

    done = run_script("search", *words, "--trials", "2", "--balance", "weights")
    assert "balance: found 'logits', given 'weights'\n" in done.stderr
    done = run_script("search", *words, "--trials", "2", "--inner_folds", "3")
    assert "holds a search on other clips or another number of folds (inner-0.json)" in done.stderr
    assert len(used) == 4


def test_trainings_that_diverge_end_no_search(
    words: list[str], run_script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(arguments: object) -> None:
        raise DivergedError("diverged")

    monkeypatch.setattr(search, "finetune", diverge)
    done = run_script("search", *words, "--inner_folds", "2", "--trials", "2")
    assert done.returncode == 1
    assert "every training diverged" in done.stderr
    monkeypatch.setattr(search, "finetune", lambda arguments: SimpleNamespace(test={"uar": 0.5}, main_metric="uar"))
    done = run_script("search", *words, "--inner_folds", "2", "--trials", "9")
    assert done.returncode == 0
    assert len([row for row in done.stdout.splitlines() if "| 50.0 % |" in row]) == 7


def test_a_search_over_dimensions_alone_maximises_their_ccc(
    words: list[str], run_script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search, "finetune", lambda arguments: SimpleNamespace(test={"ccc": 0.25}, main_metric="ccc"))
    done = run_script("search", *words, "--inner_folds", "2", "--trials", "1")
    assert done.stdout.startswith("| trial | CCC |")
    assert "\n| 0 | 0.250 |" in done.stdout
    assert "\nCCC: mean over 2 folds" in done.stdout
    assert (tmp_path / "search" / "best.yaml").read_text().startswith("# Trial 0: CCC 0.250, mean over 2 folds")


def test_two_searches_in_one_folder(words: list[str], run_script: Script, tmp_path: Path) -> None:
    with sole_use(tmp_path / "search"):
        done = run_script("search", *words)
        assert list((tmp_path / "search").iterdir()) == [tmp_path / "search/.lock"]
    assert done.returncode == 1
    assert f"error: output_dir: another process trains in '{tmp_path / 'search'}'" in done.stderr


@pytest.mark.parametrize(
    ("method", "head", "without"),
    [
        ("full", "linear", {"lora_r"}),
        ("lora_qkv", "linear", {"layer_decay"}),
        ("frozen", "conv", {"layer_decay", "lora_r", "learning_rate"}),
    ],
)
def test_the_default_space_has_what_the_method_has(method: str, head: str, without: set[str], tmp_path: Path) -> None:
    argv = ["--method", method, "--head", head, "--output_dir", str(tmp_path)]
    space = search.default_space(parse_arguments(argv))
    names = {"learning_rate", "head_learning_rate", "num_train_epochs", "label_smoothing_factor", "layer_decay", "lora_r", "weight_decay"}  # fmt: skip
    assert space.keys() == names - without
    search.require_space(space, argv)


def test_a_space_of_the_command_line() -> None:
    assert search.read_space(["a=1e-5:1e-3:log", "b=2:8", "c=x,y", "d=0:0.5"]) == {
        "a": FloatDistribution(1e-5, 1e-3, log=True),
        "b": IntDistribution(2, 8),
        "c": CategoricalDistribution(["x", "y"]),
        "d": FloatDistribution(0.0, 0.5),
    }
    for wrong in ("a", "a=", "=1:2", "a=1:x", "a=3:1", "a=0:1:log", "a=1:2:linear"):
        with pytest.raises(ValueError, match=f"space: expected NAME=LOW:HIGH.*found '{wrong}'"):
            search.read_space([wrong])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--space", "nonsense=1:2"], "not used by the HfArgumentParser: ['--nonsense', '1']"),
        (
            ["--space", "label_smoothing_factor=0:2"],
            "label_smoothing_factor: a share from 0 to 1 is needed, found 2.0",
        ),
    ],
)
def test_a_space_that_the_arguments_do_not_take(
    more: list[str], message: str, words: list[str], run_script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_script("search", *words, *more)
    assert message in capsys.readouterr().err


def test_too_few_speakers(words: list[str]) -> None:
    train = load_splits(parse_arguments(words).script, 400)["train"]
    with pytest.raises(SplitError, match="inner_folds=9: expected .* at least 9 speakers"):
        search.inner_folds(train, 9)


def test_a_command_line_as_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("method: frozen\nnum_train_epochs: 3\n")
    argv = ["--config", str(tmp_path / "recipe.yaml"), "--num_train_epochs", "5", "--balance", "weights"]
    assert given_arguments(argv) == {"method": "frozen", "num_train_epochs": 5.0, "balance": "weights"}
