from pathlib import Path

import pytest
import yaml

from hf_ser.training import parse_arguments
from hf_ser.training.arguments import recipe_words


def recipe(folder: Path, text: str) -> str:
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return str(folder / "recipe.yaml")


def test_a_recipe_gives_defaults_and_the_command_line_overrides_them(tmp_path: Path) -> None:
    path = recipe(
        tmp_path,
        "corpora: {ravdess: /data/ravdess, synthetic: }\nemotions: [happy, sad, calm=sad]\nlearning_rate: 1e-5\n"
        "class_weights: true\nnoise_snr: [5, 15]\nmethod: lora_qkv\nwarmup_steps: 0.2\nsplits: null\n",
    )
    arguments = parse_arguments(
        ["--config", path, "--output_dir", "x", "--learning_rate", "2e-4", "--emotions", "angry", "calm"]
    )
    assert arguments.data.corpora == ["ravdess=/data/ravdess", "synthetic"]
    assert arguments.data.emotions == ["angry", "calm"]
    assert arguments.training.learning_rate == 2e-4
    assert arguments.training.class_weights is True
    assert arguments.augmentation.noise_snr == [5.0, 15.0]
    assert arguments.tuning.method == "lora_qkv"


def test_defaults_are_those_of_emotion_recognition() -> None:
    training = parse_arguments(["--output_dir", "x"]).training
    assert training.metric_for_best_model == "uar"
    assert training.greater_is_better is True
    assert training.load_best_model_at_end
    assert not training.remove_unused_columns  # trap: the audio would be removed before it is seen
    assert training.report_to in ([], ["none"])


FOLDER = Path(__file__).parents[2] / "scripts" / "recipes"
#: Not what accelerate is told.
RECIPES = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name != "accelerate")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_one(path: Path) -> None:
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, values in recipe.pop("sweep", {}).items():
        recipe[key] = values[0]
    assert parse_arguments([*recipe_words(recipe), "--output_dir", "x"])


@pytest.mark.parametrize(
    ("metric", "greater"), [("eer", False), ("eval_eer", False), ("loss", False), ("f1_macro", True)]
)
def test_the_error_rate_is_minimised(metric: str, greater: bool) -> None:
    """Trap: transformers maximises every metric but the loss."""
    assert (
        parse_arguments(["--output_dir", "x", "--metric_for_best_model", metric]).training.greater_is_better is greater
    )


def test_gradient_checkpointing_is_not_the_re_entrant_kind() -> None:
    training = parse_arguments(["--output_dir", "x", "--gradient_checkpointing", "True"]).training
    assert training.gradient_checkpointing_kwargs == {"use_reentrant": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "unrecognized arguments|not used by the HfArgumentParser"),
        ("learning_rate: fast", "invalid"),
        ("- a\n- b", "must hold lines of the form"),
        ("a: [", "is no YAML"),
        ("method: magic", "--method: 'magic' is none of full"),
        ("shuffle_buffer: 0", "--shuffle_buffer: must be at least 1 clip, found 0"),
        ("mask_probability: 3", "must lie between 0 and 1, found 3"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_in_a_few_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--config", recipe(tmp_path, text), "--output_dir", "x"])
    printed = capsys.readouterr().err
    import re

    assert re.search(message, printed), printed
    assert len(printed.splitlines()) < 6


def test_a_recipe_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--config", "nowhere.yaml", "--output_dir", "x"])
    assert "'nowhere.yaml' cannot be read" in capsys.readouterr().err


def test_without_an_output_dir(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments([])
    assert "--output_dir: name the run's folder" in capsys.readouterr().err
