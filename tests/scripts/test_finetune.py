"""A run as a user starts it, and what it leaves."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from other_processes import python
from tiny_models import make_hubert
from transformers import TrainerCallback, Wav2Vec2FeatureExtractor, pipeline

import hf_ser
from hf_ser.audio import read_mono
from hf_ser.corpora import synthetic
from hf_ser.modeling import tiny
from hf_ser.training import SERTrainer, finetune, parse_arguments
from hf_ser.training import trainer as trainer_module
from hf_ser.training.data import load_splits

Python = Callable[..., "subprocess.CompletedProcess[str]"]
Runs = dict[str, tuple[Path, np.ndarray]]
FILES = {"README.md", "config.json", "confusion_matrix.png", "preprocessor_config.json", "results.json", "run.json",
         "excluded.csv", "splits.json", "training_curves.png"}  # fmt: skip


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hubert(tmp_path_factory.mktemp("hubert") / "steady", dropout=False)


@pytest.fixture(scope="module")
def arguments(speech: Path, hubert: Path) -> list[str]:
    return ["--corpora", f"synthetic={speech}", "--model_name_or_path", str(hubert), "--num_train_epochs", "2", "--learning_rate", "3e-3",
            "--disable_tqdm", "True", "--emotions", "angry", "sad", "happy", "calm=sad", "--distort_probability", "0"]  # fmt: skip


RUNS = {
    "full-batchnorm": ["--method", "full", "--head", "batchnorm", "--bf16", "False"],
    "lora_qkv": ["--method", "lora_qkv", "--balance", "weights", "--mask_time_prob", "0.1"],
    "head-conv": ["--method", "frozen", "--head", "conv", "--num_train_epochs", "1"],
    "combined-adapter": ["--method", "adapter+prompt+lora_ff", "--bottleneck_size", "4", "--num_train_epochs", "1"],
    "lora_classifier-adapter": (
        ["--method", "lora_classifier", "--head", "batchnorm", "--save_format", "adapter", "--num_train_epochs", "1"]
    ),
}


@pytest.fixture(scope="module")
def runs(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """For each of `RUNS` its folder, and the logits of its test clips when it was evaluated, in the clips' order."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, options in RUNS.items():
            seen: list[tuple[np.ndarray, np.ndarray]] = []
            true_per_clip = trainer_module.per_clip

            def recording(
                logits: Any,
                labels: Any,
                clips: Any,
                emotions: int,
                seen: list[Any] = seen,
                original: Any = true_per_clip,
            ) -> Any:
                seen.append((logits, clips))
                return original(logits, labels, clips, emotions)

            patch.setattr(trainer_module, "per_clip", recording)
            folder = tmp_path_factory.mktemp("runs") / name
            finetune(parse_arguments([*arguments, *options, "--output_dir", str(folder)]))
            patch.undo()
            logits, clips = seen[-1]
            found[name] = (folder, logits[np.argsort(clips)])
        yield found


def test_accelerate_launches_two_processes(run_words: Callable[..., list[str]], tmp_path: Path) -> None:
    """Trap: beside the script is evaluate.py, which would be imported in place of the package evaluate."""
    launch = ("-m", "accelerate.commands.launch", "--config_file", "scripts/recipes/accelerate/cpu.yaml")
    done = python(*launch, "scripts/finetune.py", *run_words(tmp_path / "run", "--method", "lora_qkv"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "UAR" in done.stderr
    assert "Traceback" not in done.stderr
    assert "--num_processes 2 scripts/" in json.loads((tmp_path / "run/results.json").read_text())["command"]
    answers = pipeline("audio-classification", model=str(tmp_path / "run"))(np.zeros(16_000, np.float32))
    assert {answer["label"] for answer in answers} == {"angry", "sad", "happy"}


def test_what_a_run_leaves(runs: Runs) -> None:
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


def test_every_run_opens_with_the_logits_of_its_evaluation(runs: Runs, speech: Path) -> None:
    for name, (run, expected) in runs.items():
        clips = json.loads((run / "splits.json").read_text())["parts"]["test"]
        waves = [read_mono(f"{speech}/{clip.removeprefix('synthetic/')}.wav") for clip in clips]
        truth = [
            next(e for e in ("angry", "calm", "happy", "sad") if f"_{e}_" in clip).replace("calm", "sad")
            for clip in clips
        ]
        accuracy = json.loads((run / "results.json").read_text())["metrics"]["test"]["accuracy"]
        for folder in (run, run / "adapter"):
            if not folder.exists():
                continue
            torch.manual_seed(1234)  # nothing that is opened is random
            plain = (folder / "model.safetensors").exists()
            opened = pipeline("audio-classification", model=str(folder)) if plain else hf_ser.pipeline(folder)
            logits = []
            for wave in waves:
                inputs = opened.feature_extractor(wave, sampling_rate=16_000, return_tensors="pt")
                with torch.no_grad():
                    logits.append(opened.model(**inputs).logits[0].numpy())
            np.testing.assert_allclose(logits, expected, atol=1e-5, err_msg=f"{name} {folder.name}")
            answers = [opened(wave, top_k=1)[0]["label"] for wave in waves]
            assert np.mean([a == b for a, b in zip(answers, truth, strict=True)]) == pytest.approx(accuracy), name


def test_results_state_what_was_measured_on_what(runs: Runs, hubert: Path) -> None:
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
    assert set(results["metrics"]["test"]) == {"clips", "accuracy", "f1_weighted", "f1_macro", "uar", "eer", "confusion_matrix",
                                               "recall", "intervals"}  # fmt: skip
    low, high = results["metrics"]["test"]["intervals"]["clips"]["uar"]
    assert low <= results["metrics"]["test"]["uar"] <= high
    assert [entry["epoch"] for entry in results["history"]] == [1, 2]
    assert str(folder) not in json.dumps(results)
    assert results["merged_emotions"] == {"calm": "sad"}
    assert results["parameters"]["trainable"] < results["parameters"]["total"]
    assert results["peak_memory_bytes"]["process"] > 1e8
    assert results["training"]["arguments"]["balance"] == "weights"
    assert results["training"]["spec_augment"] is True
    assert results["environment"]["packages"]["torch"] == torch.__version__.split("+")[0]
    last = {"by": "last", "value": None, "step": results["training"]["steps"], "epoch": 2.0}
    assert {name: results["kept"].get(name) for name in last} == last
    assert results["kept"]["averaged_steps"] > 0
    assert len(results["kept"]["validation_scores"]) == 5
    assert results["left_out"]["fear"] == 12
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "angry", "1": "happy", "2": "sad"}
    assert "lora" not in json.dumps(config)
    adapter = json.loads((folder / "adapter/adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(hubert)


def test_a_group_norm_encoder_reaches_its_metrics_in_a_plain_pipeline_at_every_batch_size(tmp_path: Path) -> None:
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

    emotions = results.emotions
    names = json.loads((folder / "splits.json").read_text())["parts"]["test"]
    truth = np.array([next(i for i, e in enumerate(emotions) if f"_{e}_" in name) for name in names])
    clips = [read_mono(f"{tmp_path}/speech/{name.removeprefix('synthetic/')}.wav") for name in names]

    def probabilities(classifier: Any, size: int) -> np.ndarray:
        found = [{a["label"]: a["score"] for a in answer} for answer in classifier(clips, batch_size=size, top_k=None)]
        return np.array([[answer[e] for e in emotions] for answer in found])

    plain = pipeline("audio-classification", model=str(folder))
    assert type(plain.model).__module__.startswith("transformers.")
    one, eight = probabilities(plain, 1), probabilities(plain, 8)
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

    np.testing.assert_allclose(probabilities(hf_ser.pipeline(folder), 8), one, atol=1e-4)


def test_a_random_split_is_reported_as_sharing_speakers_and_unusable_clips_as_excluded(
    arguments: list[str], speech: Path, tmp_path: Path
) -> None:
    corpus = Path(shutil.copytree(speech, tmp_path / "corpus"))
    (corpus / "f01/f01_sad_98.wav").write_bytes(b"nothing")
    shutil.copy(min((corpus / "f01").glob("f01_sad_0*.wav")), corpus / "f01/f01_sad_99.wav")
    soundfile.write(corpus / "f01/f01_happy_99.wav", 0.1 * np.random.default_rng(0).standard_normal(300), 16_000)
    results = finetune(parse_arguments([*arguments, "--corpora", f"synthetic={corpus}", "--method", "lora_classifier",
                                        "--split", "random", "--max_steps", "1", "--output_dir", str(tmp_path / "run")]))  # fmt: skip
    assert results.split["speakers_shared_by_train_and_test"] > 0
    assert any("say nothing about a new speaker" in warning for warning in results.warnings)
    assert "say nothing about a new speaker" in (tmp_path / "run/README.md").read_text()
    with (tmp_path / "run/excluded.csv").open(newline="") as file:
        listed = {line["clip"]: line["reason"] for line in csv.DictReader(file)}
    assert listed == {
        "synthetic/f01/f01_sad_98": "unreadable",
        "synthetic/f01/f01_sad_99": "duplicate",
        "synthetic/f01/f01_happy_99": "too short",
    }


def test_a_split_is_read_back(runs: Runs, arguments: list[str]) -> None:
    saved = runs["lora_qkv"][0] / "splits.json"
    parts = load_splits(parse_arguments([*arguments, "--output_dir", "x", "--splits", str(saved)]).script, 400)
    assert {part: clips["clip"][:] for part, clips in parts.items()} == json.loads(saved.read_text())["parts"]


class TestAnExistingFolder:
    def test_a_finished_run_is_not_overwritten_unasked(
        self, runs: Runs, arguments: list[str], run_script: Python
    ) -> None:
        folder, _ = runs["lora_qkv"]
        before = (folder / "model.safetensors").stat().st_mtime_ns
        refused = run_script("finetune", *arguments, "--method", "lora_qkv", "--output_dir", folder)
        assert refused.returncode == 1
        assert "holds a finished run. Choose another folder, or overwrite_output_dir True" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert (folder / "model.safetensors").stat().st_mtime_ns == before

    def test_a_folder_that_is_no_run_is_left_alone_even_when_asked(self, arguments: list[str], tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(FileExistsError, match="holds no run; it is left alone"):
            finetune(parse_arguments([*arguments, "--output_dir", str(tmp_path), "--overwrite_output_dir", "True"]))
        assert (tmp_path / "thesis.tex").exists()

    def test_a_run_that_cannot_begin_deletes_nothing(self, runs: Runs, arguments: list[str]) -> None:
        folder, _ = runs["lora_qkv"]
        anew = ["--output_dir", str(folder), "--overwrite_output_dir", "True"]
        with pytest.raises(ValueError, match="there is no folder"):
            finetune(parse_arguments([*arguments, "--corpora", "ravdess=/nowhere", *anew]))
        assert (folder / "results.json").exists()

    def test_nothing_to_resume_from(self, arguments: list[str], tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
            finetune(
                parse_arguments([*arguments, "--output_dir", str(tmp_path / "new"), "--resume_from_checkpoint", "True"])
            )


@pytest.mark.parametrize("seeds", [(), ("--seeds", "1")])
def test_a_folder_in_which_a_run_trains_is_left_alone(
    run_words: Callable[..., list[str]], run_script: Python, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    seeds: tuple[str, ...],
) -> None:  # fmt: skip
    """The same command a second time, and others that would begin anew or go on, while the first trains."""
    folder = tmp_path / "seeds/seed-1" if seeds else tmp_path / "run"
    words = [*run_words(folder.parent if seeds else folder, "--method", "lora_classifier"), *seeds]
    alone = ["--seed", "1", "--output_dir", str(folder)]
    others = [words, [*words[:-2], *alone, "--overwrite_output_dir", "True"]] if seeds else [
        [*words, "--overwrite_output_dir", "True"], [*words, "--resume_from_checkpoint", "True"]]  # fmt: skip
    true_train, said = SERTrainer.train, []

    def train(self: SERTrainer, *given: Any) -> Any:
        monkeypatch.setattr(SERTrainer, "train", true_train)
        before = sorted(folder.rglob("*"))
        said.extend(run_script("finetune", *other).stderr for other in others)
        assert sorted(folder.rglob("*")) == before
        return true_train(self, *given)

    monkeypatch.setattr(SERTrainer, "train", train)
    ran = run_script("finetune", *words)
    assert ran.returncode == 0, ran.stderr
    for message in said:
        assert re.match(rf"error: output_dir: another process trains in '{tmp_path}.*choose another folder", message)
    assert len(said) == 2
    assert (folder / "results.json").exists()
    assert not list(tmp_path.rglob(".*"))


def test_a_run_is_not_resumed_with_another_split_or_objective(
    runs: Runs, arguments: list[str], speech: Path, tmp_path: Path
) -> None:
    """A speaker would move from train to test; or results would state the new objective for all epochs."""
    run = Path(shutil.copytree(runs["lora_qkv"][0], tmp_path / "run"))
    (run / "results.json").unlink()  # its arguments are known from the start, before there are results
    options = [*arguments, *RUNS["lora_qkv"]]
    resume = [*options, "--output_dir", str(run), "--resume_from_checkpoint", "True"]
    fewer = ["--corpora", f"synthetic={tmp_path / 'fewer'}"]
    shutil.copytree(speech, tmp_path / "fewer")
    min((tmp_path / "fewer").rglob("*_sad_*.wav")).unlink()
    for changed, message in (
        (["--split_seed", "7"], rf"{run} holds a run with other arguments .*\n  split_seed: found 42, given 7"),
        (["--emotions", "angry", "sad", "happy", "calm=happy"], r"emotions: found \["),
        (["--label_smoothing_factor", "0.1"], "label_smoothing_factor: found 0.0, given 0.1"),
        (fewer, r"not those that the run began with .*splits\.json"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune(parse_arguments([*resume, *changed]))
    last = str(max(run.glob("checkpoint-*")))
    elsewhere = [*options, "--output_dir", str(tmp_path / "elsewhere"), "--resume_from_checkpoint", last]
    with pytest.raises(ValueError, match="not those that the run began with"):
        finetune(parse_arguments([*elsewhere, *fewer]))
    assert finetune(parse_arguments([*elsewhere, "--save_total_limit", "3"])).training.epochs == 2
    assert (tmp_path / "elsewhere/splits.json").read_text() == (run / "splits.json").read_text()


def test_starting_anew_deletes_the_run_and_nothing_else(runs: Runs, arguments: list[str], tmp_path: Path) -> None:
    """Also where the folder is a link, and where another run lies below it."""
    shutil.copytree(runs["lora_qkv"][0], tmp_path / "scratch")
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    (tmp_path / "run/below").mkdir()
    (tmp_path / "run/below/model.safetensors").write_text("another run")
    (tmp_path / "run/notes.txt").write_text("mine")
    for checkpoint in ("checkpoint-9999", "checkpoint-mine"):
        (tmp_path / "run" / checkpoint).mkdir()
    finetune(parse_arguments([*arguments, "--method", "lora_classifier", "--max_steps", "1", "--save_strategy", "no",
                              "--output_dir", str(tmp_path / "run"), "--overwrite_output_dir", "True"]))  # fmt: skip
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "run/below/model.safetensors").read_text() == "another run"
    assert (tmp_path / "run/notes.txt").exists()
    assert (tmp_path / "run/checkpoint-mine").is_dir()
    assert not (tmp_path / "run/checkpoint-9999").exists()


def test_a_killed_run_is_resumed_with_the_same_result(
    runs: Runs, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = runs["full-batchnorm"]
    options = [*arguments, *RUNS["full-batchnorm"]]
    cut = [*options, "--output_dir", str(tmp_path / "cut")]

    class Killed(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            raise KeyboardInterrupt

    true_init = SERTrainer.__init__

    def killed_init(self: SERTrainer, *args: Any, **kwargs: Any) -> None:
        true_init(self, *args, **kwargs)
        self.add_callback(Killed())

    monkeypatch.setattr(SERTrainer, "__init__", killed_init)
    with pytest.raises(KeyboardInterrupt):
        finetune(parse_arguments(cut))
    monkeypatch.undo()
    with pytest.raises(FileExistsError, match="an unfinished run .*resume_from_checkpoint True to go on"):
        finetune(parse_arguments(cut))
    # A checkpoint of elsewhere gives no leave to write over a run.
    before = (whole / "results.json").read_bytes()
    checkpoint = str(max((tmp_path / "cut").glob("checkpoint-*")))
    with pytest.raises(FileExistsError, match="holds a finished run"):
        finetune(parse_arguments([*options, "--output_dir", str(whole), "--resume_from_checkpoint", checkpoint]))
    assert (whole / "results.json").read_bytes() == before
    resumed = finetune(parse_arguments([*cut, "--resume_from_checkpoint", "True"]))
    assert resumed.training.resumed_from.startswith("checkpoint-")
    assert resumed.metrics == json.loads(before)["metrics"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpora", "ravdess=/nowhere"], "error: ravdess: there is no folder '/nowhere'"),
        (["--split", "official"], "error: official split: no clip for train and test"),
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
