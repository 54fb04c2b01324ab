"""A run as a user starts it, and what it leaves."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2FeatureExtractor

import hf_ser
from hf_ser.audio import read_mono
from hf_ser.corpora import synthetic
from hf_ser.models import tiny
from hf_ser.training import finetune, parse_arguments
from hf_ser.training import trainer as trainer_module

Python = Callable[..., "subprocess.CompletedProcess[str]"]
NO_DROPOUT = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0)
LAUNCH = [
    "-m",
    "accelerate.commands.launch",
    "--num_machines",
    "1",
    "--main_process_port",
    "0",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
]
FILES = {
    "README.md",
    "config.json",
    "confusion_matrix.png",
    "preprocessor_config.json",
    "results.json",
    "run.json",
    "excluded.csv",
    "splits.json",
    "training_curves.png",
}

#: Prints the logits and the pipeline's answers for the test clips of each folder, in a process of its own.
REOPEN = """
import json, sys
import numpy as np, torch
from pathlib import Path
from transformers import pipeline
import hf_ser
from hf_ser.audio import read_mono
from hf_ser.corpora import synthetic

corpus, *folders = sys.argv[1:]
torch.manual_seed(1234)
for folder in folders:
    plain = (Path(folder) / "model.safetensors").exists()
    pipe = pipeline("audio-classification", model=folder) if plain else hf_ser.pipeline(folder)
    names = json.loads((Path(folder) / "splits.json").read_text())["parts"]["test"]
    waves = [read_mono(f"{corpus}/{name.removeprefix('synthetic/')}.wav") for name in names]
    if (Path(folder) / "adapter").exists():
        pipes = [pipe, hf_ser.pipeline(Path(folder) / "adapter")]
    else:
        pipes = [pipe]
    for opened in pipes:
        logits = []
        for wave in waves:
            inputs = opened.feature_extractor(wave, sampling_rate=16_000, return_tensors="pt")
            with torch.no_grad():
                logits.append(opened.model(**inputs).logits[0].tolist())
        answers = [opened(wave, top_k=1)[0]["label"] for wave in waves]
        print("OPENED", json.dumps({"names": names, "logits": logits, "answers": answers}))
"""


#: Prints a plain pipeline's answers for the test clips, one by one and in batches, in a process that knows transformers alone.
PLAIN = """
import json, sys
from pathlib import Path
import soundfile
from transformers import pipeline

corpus, folder = sys.argv[1:]
names = json.loads((Path(folder) / "splits.json").read_text())["parts"]["test"]
files = [f"{corpus}/{name.removeprefix('synthetic/')}.wav" for name in names]
clips = [{"array": samples, "sampling_rate": rate} for samples, rate in map(soundfile.read, files)]
classifier = pipeline("audio-classification", model=folder, top_k=None)
answers = [[{a["label"]: a["score"] for a in answer} for answer in classifier(clips, batch_size=size)] for size in (1, 8)]
print("ANSWERS", json.dumps({"names": names, "answers": answers, "package": "hf_ser" in sys.modules}))
"""


@pytest.fixture(scope="module")
def hubert(make_hubert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hubert(tmp_path_factory.mktemp("hubert") / "steady", **NO_DROPOUT)


@pytest.fixture(scope="module")
def arguments(speech: Path, hubert: Path) -> list[str]:
    return ["--corpora", f"synthetic={speech}", "--model_name_or_path", str(hubert), "--num_train_epochs", "2", "--learning_rate", "3e-3",
            "--disable_tqdm", "True", "--emotions", "angry", "sad", "happy", "calm=sad"]  # fmt: skip


RUNS = {
    "full": ["--method", "full"],
    "full-batchnorm": ["--method", "full", "--head", "batchnorm", "--bf16", "False"],
    "lora_qkv": ["--method", "lora_qkv", "--class_weights", "True", "--mask_time_prob", "0.1"],
    "lora_qkv-batchnorm": ["--method", "lora_qkv", "--head", "batchnorm"],
    "lora_classifier": ["--method", "lora_classifier"],
    "head-conv": ["--method", "frozen", "--head", "conv"],
    "prompt-conv-adapter": ["--method", "prompt", "--head", "conv"],
    "lora_qkv+ff": ["--method", "lora_qkv+lora_ff"],
    "combined-adapter": ["--method", "adapter+prompt+lora_ff", "--bottleneck_size", "4"],
    "lora_classifier-adapter": ["--method", "lora_classifier", "--head", "batchnorm", "--save_format", "adapter"],
}


@pytest.fixture(scope="module")
def runs(
    arguments: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Path, np.ndarray]]]:
    """For each of `RUNS` its folder, and the logits of its test clips when it was evaluated, in the clips' order."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, options in RUNS.items():
            seen: list[tuple[np.ndarray, np.ndarray]] = []
            true_per_clip = trainer_module.per_clip

            def recording(
                logits: Any, labels: Any, clips: Any, seen: list[Any] = seen, original: Any = true_per_clip
            ) -> Any:
                seen.append((logits, clips))
                return original(logits, labels, clips)

            patch.setattr(trainer_module, "per_clip", recording)
            folder = tmp_path_factory.mktemp("runs") / name
            finetune(parse_arguments([*arguments, *options, "--output_dir", str(folder)]))
            patch.undo()
            logits, clips = seen[-1]
            found[name] = (folder, logits[np.argsort(clips)])
        yield found


def test_what_a_run_leaves(runs: dict[str, tuple[Path, np.ndarray]]) -> None:
    for name, (folder, _) in runs.items():
        there = {path.name for path in folder.iterdir() if not path.name.startswith("checkpoint-")}
        code = {path.name for path in folder.glob("*_ser.py")}
        assert ("modeling_ser.py" in code) == (name == "head-conv")
        there -= code
        weights = (
            {"adapter_config.json", "adapter_model.safetensors"} if name.endswith("adapter") else {"model.safetensors"}
        )
        assert there == FILES | weights | ({"adapter"} if "lora" in name and not name.endswith("adapter") else set()), (
            name
        )
        assert not list(folder.rglob("*.bin")), "a pickle"


def test_every_run_opens_in_a_new_process_with_the_logits_of_its_evaluation(
    runs: dict[str, tuple[Path, np.ndarray]], speech: Path, python: Python
) -> None:
    printed = python("-c", REOPEN, speech, *(folder for folder, _ in runs.values()))
    assert printed.returncode == 0, printed.stderr[-3000:]
    opened = iter(
        json.loads(line.removeprefix("OPENED ")) for line in printed.stdout.splitlines() if line.startswith("OPENED")
    )
    for name, (folder, expected) in runs.items():
        results = json.loads((folder / "results.json").read_text())
        for _ in range(2 if (folder / "adapter").exists() else 1):
            found = next(opened)
            np.testing.assert_allclose(found["logits"], expected, atol=1e-5, err_msg=name)
            truth = [next(e for e in ("angry", "calm", "happy", "sad") if f"_{e}_" in clip) for clip in found["names"]]
            truth = ["sad" if emotion == "calm" else emotion for emotion in truth]
            right = np.mean([a == b for a, b in zip(found["answers"], truth, strict=True)])
            assert right == pytest.approx(results["metrics"]["test"]["accuracy"]), name
            assert set(found["answers"]) <= {"angry", "happy", "sad"}
    assert next(opened, None) is None


def test_results_tell_what_was_measured_on_what(runs: dict[str, tuple[Path, np.ndarray]], hubert: Path) -> None:
    folder, _ = runs["lora_qkv"]
    results = json.loads((folder / "results.json").read_text())
    split = results["split"]
    assert split["name"] == "speaker"
    assert split["speakers_shared_by_train_and_test"] == 0
    assert (
        results["metrics"]["test"]["clips"]
        == split["parts"]["test"]["clips"]
        == np.sum(results["metrics"]["test"]["confusion_matrix"])
    )
    assert set(results["metrics"]["test"]) == {
        "clips",
        "accuracy",
        "f1_weighted",
        "f1_macro",
        "uar",
        "eer",
        "confusion_matrix",
        "recall",
        "intervals",
    }
    low, high = results["metrics"]["test"]["intervals"]["clips"]["uar"]
    assert low <= results["metrics"]["test"]["uar"] <= high
    assert [entry["epoch"] for entry in results["history"]] == [1, 2]
    assert str(folder) not in json.dumps(results)
    assert results["merged_emotions"] == {"calm": "sad"}
    assert results["parameters"]["trainable"] < results["parameters"]["total"]
    assert results["peak_memory_bytes"]["process"] > 1e8
    assert results["training"]["arguments"]["class_weights"] is True
    assert results["training"]["spec_augment"] is True
    assert results["environment"]["packages"]["torch"] == torch.__version__.split("+")[0]
    assert results["kept"]["by"] == "last"
    assert results["kept"]["averaged_steps"] > 0
    assert len(results["kept"]["validation_uar"]) == 5
    assert results["left_out"]["fear"] == 12
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "angry", "1": "happy", "2": "sad"}
    assert "lora" not in json.dumps(config)
    adapter = json.loads((folder / "adapter/adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(hubert)


def test_the_card_says_on_which_split(runs: dict[str, tuple[Path, np.ndarray]]) -> None:
    card = (runs["full"][0] / "README.md").read_text()
    assert "`speaker` split" in card
    assert "Speakers shared by train and test: 0." in card
    assert "pipeline_tag: audio-classification" in card


def test_a_group_norm_encoder_reaches_its_figures_in_a_plain_pipeline_at_every_batch_size(
    make_hubert: Callable[..., Path], tmp_path: Path, python: Python
) -> None:
    """Trap: saved without the attention mask, such a model fell from 62 to 35 % UAR with a batch size of 8."""
    synthetic.make(tmp_path / "speech", speakers=6, clips_per_emotion=4)
    group_norm = {**tiny.CONFIG, "do_stable_layer_norm": False, "conv_bias": False, "feat_extract_norm": "group"}
    hubert = make_hubert(tmp_path / "hubert", **group_norm)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(hubert)  # as WavLM Base+
    folder = tmp_path / "run"
    results = finetune(parse_arguments(
        ["--corpora", f"synthetic={tmp_path / 'speech'}", "--model_name_or_path", str(hubert), "--emotions", "angry", "happy", "neutral", "sad",
         "--num_train_epochs", "8", "--learning_rate", "3e-3", "--test_size", "0.34", "--split", "random", "--seed", "2", "--disable_tqdm", "True", "--bf16", "False",
         "--output_dir", str(folder)]
    ))  # fmt: skip
    saved = json.loads((folder / "preprocessor_config.json").read_text())
    assert saved["return_attention_mask"] is True
    assert saved["do_normalize"] is False
    assert results.training.spec_augment is False

    printed = python("-c", PLAIN, tmp_path / "speech", folder)
    assert printed.returncode == 0, printed.stderr[-3000:]
    [line] = [line for line in printed.stdout.splitlines() if line.startswith("ANSWERS ")]
    found = json.loads(line.removeprefix("ANSWERS "))
    assert not found["package"]
    emotions = results.emotions
    truth = np.array([next(i for i, e in enumerate(emotions) if f"_{e}_" in name) for name in found["names"]])
    one, eight = (np.array([[answer[e] for e in emotions] for answer in answers]) for answers in found["answers"])
    matrix = np.zeros((4, 4), dtype=int)
    np.add.at(matrix, (truth, one.argmax(axis=1)), 1)
    assert matrix.tolist() == results.test["confusion_matrix"]
    uar = np.mean([np.mean(eight.argmax(axis=1)[truth == i] == i) for i in range(4)])
    assert results.test["uar"] > 0.45  # or there would be nothing to lose
    assert uar == pytest.approx(results.test["uar"], abs=0.15)
    assert np.mean(one.argmax(axis=1) != eight.argmax(axis=1)) < 0.2
    assert 1e-4 < np.abs(one - eight).mean() < 0.05
    card = " ".join((folder / "README.md").read_text().split())
    assert "transformers alone computes the group norm of the first layer over the padding, too" in card

    classifier = hf_ser.pipeline(folder)
    clips = [read_mono(f"{tmp_path}/speech/{name.removeprefix('synthetic/')}.wav") for name in found["names"]]
    together = [{a["label"]: a["score"] for a in answer} for answer in classifier(clips, batch_size=8, top_k=None)]
    np.testing.assert_allclose([[answer[e] for e in emotions] for answer in together], one, atol=1e-4)


def test_the_random_split_is_reported_as_sharing_speakers(arguments: list[str], tmp_path: Path) -> None:
    results = finetune(parse_arguments([*arguments, "--method", "lora_classifier", "--split", "random", "--num_train_epochs", "1",
                                        "--output_dir", str(tmp_path / "run")]))  # fmt: skip
    assert results.split["speakers_shared_by_train_and_test"] > 0
    assert any("say nothing about a new speaker" in warning for warning in results.warnings)
    assert "say nothing about a new speaker" in (tmp_path / "run/README.md").read_text()


def test_a_split_is_read_back(runs: dict[str, tuple[Path, np.ndarray]], arguments: list[str], tmp_path: Path) -> None:
    saved = runs["full"][0] / "splits.json"
    finetune(parse_arguments([*arguments, "--method", "lora_classifier", "--num_train_epochs", "1", "--splits", str(saved),
                              "--output_dir", str(tmp_path / "run")]))  # fmt: skip
    again = json.loads((tmp_path / "run/splits.json").read_text())
    assert again["parts"] == json.loads(saved.read_text())["parts"]


def test_bad_clips_are_set_aside_and_listed(speech: Path, arguments: list[str], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(speech, tmp_path / "corpus")
    (tmp_path / "corpus/f01/f01_sad_98.wav").write_bytes(b"nothing")
    shutil.copy(min((tmp_path / "corpus/f01").glob("f01_sad_0*.wav")), tmp_path / "corpus/f01/f01_sad_99.wav")
    soundfile.write(
        tmp_path / "corpus/f01/f01_happy_99.wav", 0.1 * np.random.default_rng(0).standard_normal(300), 16_000
    )
    finetune(parse_arguments([*arguments, "--corpora", f"synthetic={tmp_path / 'corpus'}", "--method", "lora_classifier",
                              "--num_train_epochs", "1", "--output_dir", str(tmp_path / "run")]))  # fmt: skip
    with (tmp_path / "run/excluded.csv").open(newline="") as file:
        listed = {line["clip"]: line["reason"] for line in csv.DictReader(file)}
    assert listed == {
        "synthetic/f01/f01_sad_98": "unreadable",
        "synthetic/f01/f01_sad_99": "duplicate",
        "synthetic/f01/f01_happy_99": "too short",
    }


class TestUnderAccelerate:
    @pytest.fixture(scope="class")
    def launched(self, arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
        """The same run in one process, and in two at the same global batch; and a second try at the same folder."""
        results = {}
        for processes in (1, 2):
            folder = tmp_path_factory.mktemp("launched") / str(processes)
            # On a machine without a GPU accelerate starts several processes under this flag alone.
            command = [sys.executable, *LAUNCH, "--num_processes", str(processes), *(["--multi_gpu"] if processes > 1 else []),
                       "scripts/finetune.py", *arguments, "--method", "lora_qkv", "--lora_dropout", "0", "--bf16", "False",
                       "--per_device_train_batch_size", str(6 // processes), "--per_device_eval_batch_size", "5",
                       "--noise_probability", "0.5", "--distort_probability", "0.5", "--mixup_alpha", "0.5",
                       "--balanced_sampling", "True", "--output_dir", str(folder), "--logging_strategy", "steps",
                       "--logging_steps", "1"]  # fmt: skip
            done = subprocess.run(
                command,
                cwd=Path(__file__).parents[2],
                capture_output=True,
                text=True,
                timeout=300,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            )
            assert done.returncode == 0, done.stderr[-3000:]
            state = json.loads(next(iter(sorted(folder.glob("checkpoint-*/trainer_state.json")))).read_text())
            results[processes] = {
                **json.loads((folder / "results.json").read_text()),
                "losses": [entry["loss"] for entry in state["log_history"] if "loss" in entry],
                "printed": done.stdout + done.stderr,
            }
        return results

    def test_two_processes_give_the_figures_of_one(self, launched: dict[int, dict[str, Any]]) -> None:
        one, two = launched[1], launched[2]
        assert (one["training"]["processes"], two["training"]["processes"]) == (1, 2)
        assert one["training"]["clips_per_step"] == two["training"]["clips_per_step"] == 6
        for part in ("validation", "test"):
            assert two["metrics"][part]["clips"] == one["metrics"][part]["clips"]
            assert np.sum(two["metrics"][part]["confusion_matrix"]) == one["metrics"][part]["clips"]
            assert two["metrics"][part]["confusion_matrix"] == one["metrics"][part]["confusion_matrix"]
            assert two["metrics"][part]["eer"] == pytest.approx(one["metrics"][part]["eer"], abs=0.02)

    def test_two_processes_learn_as_one(self, launched: dict[int, dict[str, Any]]) -> None:
        assert len(launched[1]["losses"]) >= 4
        np.testing.assert_allclose(launched[2]["losses"], launched[1]["losses"], rtol=2e-3)

    def test_it_is_said_once(self, launched: dict[int, dict[str, Any]]) -> None:
        for run in launched.values():
            assert run["printed"].count("parameters train") == 1
            assert run["printed"].count("the run is in") == 1


class TestAnExistingFolder:
    def test_a_finished_run_is_not_overwritten_unasked(
        self, runs: dict[str, tuple[Path, np.ndarray]], arguments: list[str], run_script: Python
    ) -> None:
        folder, _ = runs["lora_classifier"]
        before = (folder / "model.safetensors").stat().st_mtime_ns
        refused = run_script("finetune", *arguments, "--method", "lora_classifier", "--output_dir", folder)
        assert refused.returncode == 1
        assert "holds a finished run. Choose another folder, or overwrite_output_dir True" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert (folder / "model.safetensors").stat().st_mtime_ns == before

    def test_a_folder_that_is_no_run_is_left_alone_even_when_asked(self, arguments: list[str], tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(FileExistsError, match="holds no run; it is left alone"):
            finetune(parse_arguments([*arguments, "--output_dir", str(tmp_path), "--overwrite_output_dir", "True"]))
        assert (tmp_path / "thesis.tex").exists()

    def test_a_run_that_cannot_begin_deletes_nothing(
        self, runs: dict[str, tuple[Path, np.ndarray]], arguments: list[str]
    ) -> None:
        folder, _ = runs["lora_classifier"]
        with pytest.raises(ValueError, match="there is no folder"):
            finetune(
                parse_arguments(
                    [
                        *arguments,
                        "--corpora",
                        "ravdess=/nowhere",
                        "--output_dir",
                        str(folder),
                        "--overwrite_output_dir",
                        "True",
                    ]
                )
            )
        assert (folder / "results.json").exists()

    def test_nothing_to_resume_from(self, arguments: list[str], tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
            finetune(
                parse_arguments([*arguments, "--output_dir", str(tmp_path / "new"), "--resume_from_checkpoint", "True"])
            )


def test_a_run_is_not_resumed_with_another_split(arguments: list[str], speech: Path, tmp_path: Path) -> None:
    """A speaker would move from train to test, and be tested by a model that has learned them."""
    options = [*arguments, "--method", "lora_classifier", "--output_dir", str(tmp_path / "run")]
    finetune(parse_arguments(options))
    before = (tmp_path / "run/results.json").read_text()
    resume = [*options, "--resume_from_checkpoint", "True"]
    fewer = ["--corpora", f"synthetic={tmp_path / 'fewer'}"]
    shutil.copytree(speech, tmp_path / "fewer")
    min((tmp_path / "fewer").rglob("*_sad_*.wav")).unlink()
    for changed, message in (
        (["--split_seed", "7"], "split_seed: found 42, given 7"),
        (["--emotions", "angry", "sad", "happy", "calm=happy"], r"emotions: found \["),
        (fewer, r"not those that the run began with .*splits\.json"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune(parse_arguments([*resume, *changed]))
    assert (tmp_path / "run/results.json").read_text() == before
    elsewhere = [
        *options,
        "--output_dir",
        str(tmp_path / "elsewhere"),
        "--resume_from_checkpoint",
    ]
    last = str(max((tmp_path / "run").glob("checkpoint-*")))
    with pytest.raises(ValueError, match="not those that the run began with"):
        finetune(parse_arguments([*elsewhere, last, *fewer]))
    epochs = json.loads(before)["training"]["epochs"]
    assert finetune(parse_arguments([*elsewhere, last])).training.epochs == epochs
    assert (tmp_path / "elsewhere/splits.json").read_text() == (tmp_path / "run/splits.json").read_text()
    assert finetune(parse_arguments(resume)).training.epochs == epochs


def test_a_run_is_not_resumed_with_another_objective(arguments: list[str], tmp_path: Path) -> None:
    """Its results would state the new one for all epochs. It is known from the start, before there are results."""
    options = [*arguments, "--method", "lora_qkv", "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1"]
    finetune(parse_arguments(options))
    (tmp_path / "run/results.json").unlink()
    for name, value in (
        ("class_weights", "True"),
        ("label_smoothing_factor", "0.1"),
        ("noise_probability", "0.5"),
        ("weight_decay", "0.1"),
        ("learning_rate", "0.5"),
        ("lr_scheduler_type", "constant"),
        ("max_seconds", "0.5"),
        ("lora_dropout", "0.5"),
        ("num_train_epochs", "2"),
    ):
        with pytest.raises(
            ValueError, match=rf"{tmp_path}/run holds a run with other arguments .*\n  {name}: found .*\n"
        ):
            finetune(parse_arguments([*options, "--resume_from_checkpoint", "True", f"--{name}", value]))
    assert not (tmp_path / "run/results.json").exists()
    assert finetune(parse_arguments([*options, "--resume_from_checkpoint", "True", "--save_total_limit", "3"]))


def test_where_the_last_model_is_kept_the_results_say_so(arguments: list[str], tmp_path: Path) -> None:
    results = finetune(parse_arguments([*arguments, "--method", "lora_classifier", "--load_best_model_at_end", "False",
                                        "--num_train_epochs", "3", "--output_dir", str(tmp_path / "run")]))  # fmt: skip
    last = {"by": "last", "value": None, "step": results.training.steps, "epoch": 3.0}
    assert vars(results.kept).items() >= last.items()


def test_starting_anew_deletes_the_run_and_nothing_else(arguments: list[str], tmp_path: Path) -> None:
    """Also where the folder is a link, and where another run lies below it."""
    options = [*arguments, "--method", "lora_classifier", "--num_train_epochs", "1"]
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    finetune(parse_arguments([*options, "--output_dir", str(tmp_path / "run")]))
    (tmp_path / "run/below").mkdir()
    (tmp_path / "run/below/model.safetensors").write_text("another run")
    (tmp_path / "run/notes.txt").write_text("mine")
    (tmp_path / "run/checkpoint-9999").mkdir()
    finetune(parse_arguments([*options, "--output_dir", str(tmp_path / "run"), "--overwrite_output_dir", "True"]))
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "run/below/model.safetensors").read_text() == "another run"
    assert (tmp_path / "run/notes.txt").exists()
    assert not (tmp_path / "run/checkpoint-9999").exists()


def test_a_killed_run_is_resumed_with_the_same_result(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*arguments, "--method", "full", "--bf16", "False"]
    expected = finetune(parse_arguments([*options, "--output_dir", str(tmp_path / "whole")]))

    from transformers import TrainerCallback

    from hf_ser.training.trainer import SERTrainer

    class Killed(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            raise KeyboardInterrupt

    true_init = SERTrainer.__init__

    def killed_init(self: SERTrainer, *args: Any, **kwargs: Any) -> None:
        true_init(self, *args, **kwargs)
        self.add_callback(Killed())

    monkeypatch.setattr(SERTrainer, "__init__", killed_init)
    with pytest.raises(KeyboardInterrupt):
        finetune(parse_arguments([*options, "--output_dir", str(tmp_path / "cut")]))
    monkeypatch.undo()
    with pytest.raises(FileExistsError, match="an unfinished run .*resume_from_checkpoint True to go on"):
        finetune(parse_arguments([*options, "--output_dir", str(tmp_path / "cut")]))
    resumed = finetune(
        parse_arguments([*options, "--output_dir", str(tmp_path / "cut"), "--resume_from_checkpoint", "True"])
    )
    assert resumed.training.resumed_from.startswith("checkpoint-")
    assert resumed.metrics == expected.metrics
    # A checkpoint of elsewhere gives no leave to write over a run.
    checkpoint = str(max((tmp_path / "cut").glob("checkpoint-*")))
    whole = tmp_path / "whole"
    before = (whole / "results.json").read_bytes()
    onto = [*options, "--output_dir", str(whole), "--resume_from_checkpoint", checkpoint]
    with pytest.raises(FileExistsError, match="holds a finished run"):
        finetune(parse_arguments(onto))
    assert (whole / "results.json").read_bytes() == before
    (whole / "checkpoint-mine").mkdir()
    finetune(parse_arguments([*onto, "--overwrite_output_dir", "True"]))
    assert (whole / "checkpoint-mine").is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpora", "ravdess=/nowhere"], "error: ravdess: there is no folder '/nowhere'"),
        (["--split", "official"], "error: official split: no clip for train, validation, test"),
        (["--emotions", "angry", "sad", "boredom"], "error: emotions: the corpora have no clip of boredom"),
    ],
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], tmp_path: Path, run_script: Python, options: list[str], message: str
) -> None:
    done = run_script("finetune", *arguments, "--output_dir", tmp_path / "run", *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_too_many_bad_clips_stop_the_run(speech: Path, arguments: list[str], tmp_path: Path) -> None:
    shutil.copytree(speech, tmp_path / "corpus")
    for n in range(20):
        (tmp_path / f"corpus/f01/f01_sad_{70 + n}.wav").write_bytes(bytes([n]))
    with pytest.raises(ValueError, match=r"20 of 116 clips cannot be used.*\n  synthetic/f01/f01_sad_70: unreadable"):
        finetune(
            parse_arguments(
                [*arguments, "--corpora", f"synthetic={tmp_path / 'corpus'}", "--output_dir", str(tmp_path / "run")]
            )
        )
