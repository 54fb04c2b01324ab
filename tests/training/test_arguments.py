import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from hf_ser.audio import Augmentation
from hf_ser.results import differences
from hf_ser.training import Arguments, SERConfig, parse_arguments
from hf_ser.training.arguments import read_recipe, recipe_words
from hf_ser.training.identity import deciding_arguments, identity, require_same_run, training_identity
from hf_ser.tuning import Tuning


def recipe(folder: Path, text: str) -> str:
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return str(folder / "recipe.yaml")


def test_the_help_names_each_switch_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    printed = capsys.readouterr().out
    assert "--interpolation" in printed
    assert "--no_" not in printed


def test_a_recipe_gives_defaults_and_the_command_line_overrides_them(tmp_path: Path) -> None:
    path = recipe(
        tmp_path,
        "corpora: {ravdess: /data/ravdess, synthetic: }\nemotions: [happy, sad, calm=sad]\nlearning_rate: 1e-5\n"
        "balance: weights\nnoise_snr: [5, 15]\nmethod: lora_qkv\nwarmup_steps: 0.2\nsplits: null\n",
    )
    arguments = parse_arguments(
        ["--config", path, "--output_dir", "x", "--learning_rate", "2e-4", "--emotions", "angry", "calm"]
    )
    assert arguments.script.corpora == ["ravdess=/data/ravdess", "synthetic"]
    assert arguments.script.emotions == ["angry", "calm"]
    assert arguments.training.learning_rate == 2e-4
    assert arguments.training.balance == "weights"
    assert arguments.augmentation.noise_snr == [5.0, 15.0]
    assert arguments.tuning.method == "lora_qkv"


def test_defaults_are_those_of_emotion_recognition() -> None:
    training = parse_arguments(["--output_dir", "x"]).training
    assert training.metric_for_best_model == "uar"
    assert training.greater_is_better is True
    assert not training.load_best_model_at_end  # on few speakers the best epoch is mostly luck
    assert not training.remove_unused_columns  # trap: the audio would be removed before it is seen
    assert training.report_to in ([], ["none"])
    assert training.ddp_timeout >= 3 * 3600  # one machine may compute what another one has cached
    assert training.head == "linear"
    assert (training.lr_scheduler_type, training.warmup_steps) == ("linear", 0.1)
    assert (training.num_train_epochs, training.per_device_train_batch_size) == (3, 16)
    assert (training.average_share, training.interpolation) == (0.2, True)
    assert parse_arguments(["--output_dir", "x"]).tuning == Tuning("full", freeze_feature_encoder=True)


@pytest.mark.parametrize(
    ("given", "gpu", "expected"),
    [({}, True, True), ({}, False, False), ({"dataloader_pin_memory": False}, True, False),
     ({"accelerator_config": {"non_blocking": False}}, True, False), ({"accelerator_config": {"even_batches": True}}, True, True)],
)  # fmt: skip
def test_pinned_batches_are_copied_to_a_gpu_while_it_computes(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], gpu: bool, expected: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(SERConfig, "device", torch.device("meta"))
    training = SERConfig("x", bf16=False, **given)
    assert training.accelerator_config.non_blocking == expected


def test_no_process_looks_for_parameters_that_a_step_leaves_out() -> None:
    assert SERConfig("x").ddp_find_unused_parameters is False
    assert SERConfig("x", ddp_find_unused_parameters=True).ddp_find_unused_parameters is True


FOLDER = Path(__file__).parents[2] / "scripts" / "recipes"
#: Not those of accelerate.
RECIPES = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name != "accelerate")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_one(path: Path) -> None:
    recipe = read_recipe(path)
    recipe.pop("seeds", None)
    for key, values in recipe.pop("sweep", {}).items():
        recipe[key] = values[0]
    arguments = parse_arguments([*recipe_words(recipe), "--output_dir", "x"])
    found = {name: value for part in arguments for name, value in vars(part).items()}
    assert {name: str(found[name]) for name in recipe.keys() & {"method", "head", "split", "seed"}} == {
        name: str(recipe[name]) for name in recipe.keys() & {"method", "head", "split", "seed"}
    }


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
    given = {"use_reentrant": False, "preserve_rng_state": False}
    words = ["--output_dir", "x", "--gradient_checkpointing_kwargs", json.dumps(given)]
    assert parse_arguments(words).training.gradient_checkpointing_kwargs == given


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "unrecognized arguments|not used by the HfArgumentParser"),
        ("learning_rate: fast", "invalid"),
        ("- a\n- b", "must hold lines of the form"),
        ("a: [", "is no YAML"),
        ("method: magic", "method='magic': expected one of full"),
        ("shuffle_buffer: 0", "shuffle_buffer: must be at least 1 clip, found 0"),
        ("segment_overlap: 1", "segment_overlap: is of use with segment_length alone, found 1.0"),
        ("segment_length: 0", "segment_length: must be a number of seconds above 0, found 0.0"),
        ("folds: 3", "folds=3: split=speaker has no folds; set split=kfold"),
        ("{split: random, fold: 1}", "fold=1: split=random has no folds; set split=kfold or official"),
        ("max_excluded: 1.5", "max_excluded: a share from 0 to 1 is needed, found 1.5"),
        ("label_smoothing_factor: 2", "label_smoothing_factor: a share from 0 to 1 is needed, found 2.0"),
        ("remove_unused_columns: true", "remove_unused_columns: clips come as lists of segments"),
        ("dataloader_drop_last: true", "dataloader_drop_last: metrics are of all clips"),
        ("average_tokens_across_devices: false", "average_tokens_across_devices: .*of all processes; found False"),
        ("eval_do_concat_batches: false", "eval_do_concat_batches: metrics are of all clips at once"),
        ("batch_eval_metrics: true", "batch_eval_metrics: metrics are of all clips at once"),
        ("neftune_noise_alpha: 5", "neftune_noise_alpha: .* speech has none; found 5"),
        ("fp16_full_eval: true", "fp16_full_eval: .*use bf16"),
        ("train_sampling_strategy: group_by_length", "train_sampling_strategy: .*found group_by_length"),
        (
            "gradient_checkpointing_kwargs: '{\"use_reentrant\": true}'",
            r"gradient_checkpointing_kwargs: found \{'use_reentrant': True\}, expected \"use_reentrant\": false",
        ),
        (  # torch's default is the re-entrant kind
            "gradient_checkpointing_kwargs: '{\"preserve_rng_state\": false}'",
            r"gradient_checkpointing_kwargs: found \{'preserve_rng_state': False\}, expected",
        ),
        (
            "gradient_checkpointing_kwargs: {use_reentrant: false}",
            "gradient_checkpointing_kwargs: found use_reentrant=False, expected",
        ),
        ("metric_for_best_model: f2", "metric_for_best_model: 'f2' is none of uar, accuracy, .* loss"),
        ("frozen_cache_gb: -1", "frozen_cache_gb: must be finite and not below 0, found -1"),
        ("num_train_epochs: .nan", "num_train_epochs: must be finite and not below 0, found nan"),
        ("learning_rate: -0.1", "learning_rate: must be finite and not below 0, found -0.1"),
        (
            "{focal_gamma: 2, label_smoothing_factor: 0.1}",
            "focal_gamma: needs one true emotion .* label_smoothing_factor is 0.1",
        ),
        ("targets: [joy]", "targets: found 'joy'"),
        ("targets: [emotion=0]", "positive weight"),
        ("{targets: [valence], balance: weights}", "balance='weights': is of use with emotions"),
        ("{targets: [emotion_distribution], balance: logits}", "balance='logits': needs one emotion"),
        ("{targets: [emotion_distribution], focal_gamma: 2}", "focal_gamma: needs one true emotion"),
        ("{attn_implementation: flash_attention_2, bf16: false}", "computes in 16 bits alone"),
        ("distort_kinds: [MP3]", "invalid choice: 'MP3'"),
        ("mask_probability: 3", "must lie between 0 and 1, found 3"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_in_a_few_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--config", recipe(tmp_path, text), "--output_dir", "x"])
    printed = capsys.readouterr().err
    assert re.search(message, printed), printed
    assert len(printed.splitlines()) < 6


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config", "nowhere.yaml", "--output_dir", "x"], "'nowhere.yaml' cannot be read"),
        ([], "output_dir: name the run's folder"),
    ],
)
def test_a_recipe_or_a_folder_that_is_not_there(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(argv)
    assert message in capsys.readouterr().err


def test_a_recipe_that_extends_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.yaml").write_text("extends: recipe.yaml")
    with pytest.raises(SystemExit):
        parsed("--config", recipe(tmp_path, "extends: base.yaml"))
    assert f"config: '{tmp_path / 'recipe.yaml'}' extends itself" in capsys.readouterr().err


def parsed(*argv: str) -> Arguments:
    return parse_arguments(["--output_dir", "x", "--per_device_train_batch_size", "8", *argv])


class TestTheSameRun:
    """A checkpoint continues the run that it is of: every argument that changes what is learned must be the same."""

    @pytest.fixture
    def started(self, tmp_path: Path) -> Callable[..., Path]:
        """A run's folder, as it is when the run has started with some arguments."""

        def start(*argv: str) -> Path:
            (tmp_path / "run.json").write_text(json.dumps(identity(parsed(*argv))))
            return tmp_path

        return start

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--balance", "weights"], "balance: found 'logits', given 'weights'"),
            (["--noise_snr", "5", "15"], r"noise_snr: found \[10.0, 30.0\], given \[5.0, 15.0\]"),
            (["--optim", "sgd"], "optim: found 'adamw_torch_fused', given 'sgd'"),
            (["--learning_rate", "0.5"], "learning_rate: found None, given 0.5"),
            (["--method", "lora_classifier"], "method: found 'lora_qkv', given 'lora_classifier'"),
            (["--max_seconds", "4"], "max_seconds: found None, given 4.0"),
            (["--lora_dropout", "0"], "lora_dropout: found 0.05, given 0.0"),
            (["--peft_arguments", '{"use_dora": true}'], "peft_arguments: found None, given {'use_dora': True}"),
            (["--seed", "7"], "seed: found 42, given 7"),
            (["--emotions", "sad", "happy"], r"emotions: found \[\], given \['sad', 'happy'\]"),
            (["--corpora", "ravdess=/data"], r"corpora: found \['synthetic'\], given \['ravdess'\]"),
            (["--gradient_accumulation_steps", "2"], "clips_per_step: found 8, given 16"),
        ],
    )
    def test_whatever_changes_what_is_learned_is_named(
        self, argv: list[str], message: str, started: Callable[..., Path]
    ) -> None:
        folder = started("--method", "lora_qkv")
        with pytest.raises(ValueError, match=rf"(?s)^{folder} holds a run with other arguments.*\n  {message}.*\nGive"):
            require_same_run(folder, identity(parsed("--method", "lora_qkv", *argv)))

    @pytest.mark.parametrize(
        "argv",
        [
            ["--output_dir", "y", "--run_name", "y", "--logging_steps", "3", "--save_total_limit", "7", "--report_to", "none"],
            ["--bf16", "True", "--cpu_threads", "1", "--frozen_cache_gb", "1", "--micro_batch_seconds", "3"],
            ["--push_to_hub", "True", "--hub_model_id", "lab/ser", "--hub_token", "secret", "--hub_clip_names", "True"],
            ["--corpora", "synthetic=/elsewhere", "--prepare_workers", "1", "--dataloader_num_workers", "2"],
            ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"],
            ["--prompt_start", "random", "--bottleneck_size", "8", "--freeze_feature_encoder", "False"],  # of other methods
            ["--model_name_or_path", "/elsewhere/hubert-large-superb-er"],
            ["--shuffle_buffer", "20"],
        ],
    )  # fmt: skip
    def test_whatever_else_is_given_may_change(self, argv: list[str]) -> None:
        assert identity(parsed("--method", "lora_qkv", *argv)) == identity(parsed("--method", "lora_qkv"))

    def test_a_configuration_of_peft_counts_with_all_its_arguments(self) -> None:
        def of(tuning: Any) -> dict[str, Any]:
            training = SERConfig("run")
            return training_identity("a/b", Tuning.of(tuning), Augmentation(), training, streaming=False)

        found = of(LoraConfig(r=4, target_modules=["q_proj", "k_proj"]))
        assert json.loads(json.dumps(found)) == found == of(LoraConfig(r=4, target_modules=["k_proj", "q_proj"]))
        assert differences(found, of(LoraConfig(r=2, target_modules=["q_proj", "k_proj"]))) == {"peft_config.r": (4, 2)}
        assert "peft_config" in differences(found, of("lora"))

    def test_kinds_of_distortion_count_where_clips_are_distorted(self) -> None:
        kinds = ("--distort_kinds", "babble")
        assert identity(parsed(*kinds)) != identity(parsed())
        clean = ("--distort_probability", "0")
        assert identity(parsed(*clean, *kinds)) == identity(parsed(*clean))

    def test_an_argument_that_is_added_counts(self) -> None:
        known = {"method": "full", "split": "speaker", "streaming": False}
        assert deciding_arguments({**known, "added": 0.25, "save_added": 1}) == {**known, "added": 0.25}

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--shuffle_buffer", "20"], "shuffle_buffer: found 1000, given 20"),
            (["--dataloader_num_workers", "2"], "dataloader_num_workers: found 1, given 2"),
            (
                ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"],
                "batch_size: found 8, given 4",
            ),
        ],
    )
    def test_the_order_of_a_stream_is_the_same(
        self, argv: list[str], message: str, started: Callable[..., Path]
    ) -> None:
        folder = started("--streaming", "True")
        require_same_run(folder, identity(parsed("--streaming", "True", "--dataloader_num_workers", "1")))
        with pytest.raises(ValueError, match=message):
            require_same_run(folder, identity(parsed("--streaming", "True", *argv)))

    def test_as_many_clips_are_in_a_step_on_however_many_processes(
        self, started: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = started()
        monkeypatch.setattr(SERConfig, "world_size", 2)
        with pytest.raises(ValueError, match="clips_per_step: found 8, given 16"):
            require_same_run(folder, identity(parsed()))
        halved = ("--per_device_train_batch_size", "4")
        require_same_run(folder, identity(parsed(*halved)))
        monkeypatch.undo()
        folder = started("--streaming", "True")
        monkeypatch.setattr(SERConfig, "world_size", 2)
        with pytest.raises(ValueError, match="processes: found 1, given 2"):
            require_same_run(folder, identity(parsed("--streaming", "True", *halved)))
