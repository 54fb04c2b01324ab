"""A finished run goes to the Hub, whole, once, and with nothing in it that is only its owner's."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AudioClassificationPipeline,
    AutoConfig,
    HubertConfig,
    HubertForSequenceClassification,
    PretrainedConfig,
    Wav2Vec2Config,
    pipeline,
)

import hf_ser
from hf_ser.hub import HubError, PushOptions, push
from hf_ser.splits import hash_name

Run = Callable[[str], Path]
WAVE = np.sin(np.arange(12_000) / 7).astype(np.float32)
RESULTS = {"README.md", "confusion_matrix.png", "results.json", "splits.json", "training_curves.png"}
CHECKPOINT = {"config.json", "model.safetensors", "preprocessor_config.json"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors", "config.json", "preprocessor_config.json"}


def answers(classifier: AudioClassificationPipeline) -> dict[str, float]:
    return {answer["label"]: answer["score"] for answer in classifier({"array": WAVE, "sampling_rate": 16_000})}


def files(repo_id: str, **options: Any) -> set[str]:
    return set(HfApi().list_repo_files(repo_id, **options)) - {".gitattributes"}


@pytest.fixture
def base(hub: Any, tiny_hubert: Path) -> str:
    """The base model, on the Hub."""
    HfApi().create_repo("lab/base")
    HfApi().upload_folder(repo_id="lab/base", folder_path=tiny_hubert)
    hub.requests.clear()
    return "lab/base"


class TestWhatGoesUp:
    def test_a_full_run_in_one_commit(self, hub: Any, run: Run) -> None:
        folder = run("full")
        plan, address = push(folder, "ser")
        assert plan.repo_id == "lab/ser"
        assert address.startswith(f"{hub.endpoint}/lab/ser/commit/")
        assert files("lab/ser") == CHECKPOINT | RESULTS
        assert len(HfApi().list_repo_commits("lab/ser")) == 2  # the Hub makes the first with the repository
        assert answers(pipeline("audio-classification", model="lab/ser")) == pytest.approx(
            answers(hf_ser.load(folder)), abs=1e-6
        )

    @pytest.mark.parametrize("name", ["prompt", "bottleneck"])
    def test_a_regular_expression_is_no_path(self, hub: Any, base: str, run: Run, name: str) -> None:
        """PEFT's configurations of these tuners have one."""
        folder = run(name)
        push(folder, "lab/ser", PushOptions(base_model=base))
        assert answers(hf_ser.load("lab/ser")) == pytest.approx(answers(hf_ser.load(folder)), abs=1e-6)

    def test_a_merged_run_has_its_adapter_beside_it(self, hub: Any, base: str, run: Run) -> None:
        folder = run("merged")
        push(folder, "lab/ser", PushOptions(base_model=base))
        assert files("lab/ser") == CHECKPOINT | RESULTS | {f"adapter/{name}" for name in ADAPTER}
        expected = answers(hf_ser.load(folder))
        assert answers(pipeline("audio-classification", model="lab/ser")) == pytest.approx(expected, abs=1e-5)
        assert answers(hf_ser.load("lab/ser")) == pytest.approx(expected, abs=1e-5)
        assert answers(hf_ser.load("lab/ser", subfolder="adapter")) == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("kind", ["adapter", "merged"])
    def test_an_adapter_alone_opens_on_its_base_from_the_hub(self, hub: Any, base: str, run: Run, kind: str) -> None:
        folder = run(kind)
        push(folder, "lab/adapter", PushOptions(base_model=base, adapter_only=True))
        assert files("lab/adapter") == ADAPTER | RESULTS
        expected = answers(hf_ser.load(folder))
        torch.manual_seed(3)  # nothing of it is random
        assert answers(hf_ser.load("lab/adapter")) == pytest.approx(expected, abs=1e-5)
        model = HubertForSequenceClassification.from_pretrained(
            base, config=AutoConfig.from_pretrained("lab/adapter"), ignore_mismatched_sizes=True, dtype=torch.float32
        )
        model = PeftModel.from_pretrained(model, "lab/adapter").eval()
        opened = hf_ser.load("lab/adapter")
        values = opened.feature_extractor(WAVE, sampling_rate=16_000, return_tensors="pt").input_values
        with torch.no_grad():
            torch.testing.assert_close(model(values).logits, opened.model(values).logits, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("kind", ["adapter", "merged"])
    def test_an_adapter_alone_never_opens_in_a_plain_pipeline_with_a_random_head(
        self, hub: Any, base: str, run: Run, kind: str
    ) -> None:
        """Traps: a base has another head, or none; what does not fit is silently drawn at random."""
        push(run(kind), "lab/adapter", PushOptions(base_model=base, adapter_only=True))
        says = r"has no attribute 'logits'|ignore_mismatched_sizes|Target modules .* not found"
        with pytest.raises((ValueError, AttributeError), match=says):
            answers(pipeline("audio-classification", model="lab/adapter"))

    def test_an_adapter_alone_whose_base_has_as_many_labels_is_refused(
        self, hub: Any, tiny_hubert: Path, run: Run
    ) -> None:
        """A plain pipeline would open it, and call happy what is sad."""
        model = HubertForSequenceClassification.from_pretrained(tiny_hubert, num_labels=3)
        model.config.id2label = {0: "sad", 1: "angry", 2: "happy"}
        model.push_to_hub("lab/other-head")
        with pytest.raises(ValueError, match=r"lab/other-head has 3 labels of its own \(sad, angry, happy\)"):
            push(run("adapter"), "lab/adapter", PushOptions(base_model="lab/other-head"))

    @pytest.mark.parametrize("kind", ["adapter", "merged"])
    @pytest.mark.parametrize(
        ("other", "says"),
        [
            (HubertConfig(hidden_size=48, num_hidden_layers=1), "its hidden_size is 48, and the adapter's 32"),
            (Wav2Vec2Config(), "its model_type is wav2vec2, and the adapter's hubert"),
            (None, "its feat_extract_norm is group, and the adapter's layer"),
        ],
        ids=["size", "type", "norm"],
    )
    def test_an_adapter_alone_on_a_base_that_it_does_not_fit_is_refused(
        self,
        hub: Any,
        run: Run,
        group_norm_hubert: Path,
        kind: str,
        other: PretrainedConfig | None,
        says: str,
    ) -> None:
        (other or HubertConfig.from_pretrained(group_norm_hubert)).push_to_hub("lab/other")
        with pytest.raises(ValueError, match=f"lab/other is not the base model of this adapter, .*: {says}"):
            push(run(kind), "lab/adapter", PushOptions(base_model="lab/other", adapter_only=True))
        assert not HfApi().repo_exists("lab/adapter")

    def test_an_adapter_alone_whose_base_is_gone_is_refused(self, hub: Any, run: Run) -> None:
        with pytest.raises(HubError, match="lab/gone is not on the Hub"):
            push(run("adapter"), "lab/adapter", PushOptions(base_model="lab/gone"))

    def test_an_adapter_alone_without_a_base_on_the_hub_is_refused(self, hub: Any, run: Run) -> None:
        with pytest.raises(ValueError, match="of use only with its base model, and that is a folder of yours"):
            push(run("adapter"), "lab/adapter")
        with pytest.raises(ValueError, match="is a run without an adapter"):
            push(run("full"), "lab/adapter", PushOptions(adapter_only=True))
        assert hub.repositories == {}

    @pytest.mark.parametrize("kind", ["full", "merged"])
    def test_no_path_no_clip_no_token_and_no_pickle(self, hub: Any, run: Run, kind: str, tmp_path: Path) -> None:
        folder = run(kind)
        names = [name for part in json.loads((folder / "splits.json").read_text())["parts"].values() for name in part]
        push(folder, "lab/ser")
        there = Path(snapshot_download("lab/ser"))
        for path in there.rglob("*"):
            if path.is_dir():
                continue
            content = path.read_bytes()
            assert path.suffix in (".md", ".json", ".png", ".safetensors") or path.name == ".gitattributes"
            secret = "hf_" + "Secret0123" * 3
            for private in (
                f"{Path.home()}/" if Path.home() != Path("/") else "/home/",
                "/jdoe",
                str(tmp_path),
                str(folder),
                "/tmp/",
                hub.token,
                secret,
                *names,
            ):
                assert private.encode() not in content, f"{path.name} holds {private}"

    def test_clip_names_go_up_when_asked(self, hub: Any, run: Run) -> None:
        folder = run("full")
        push(folder, "lab/ser", PushOptions(clip_names=True))
        assert files("lab/ser") == CHECKPOINT | RESULTS | {"set_aside.csv"}
        there = json.loads(Path(hf_hub_download("lab/ser", "splits.json")).read_text())
        assert there["parts"] == json.loads((folder / "splits.json").read_text())["parts"]

    def test_the_path_of_a_clip_that_was_not_there_stays_here(self, hub: Any, run: Run) -> None:
        folder = run("full")
        with (folder / "set_aside.csv").open("a") as file:
            file.write("calls/7,unreadable,\"there is no file '/srv/lab/7.wav', nor another\"\n")
        push(folder, "lab/ser", PushOptions(clip_names=True))
        published = Path(hf_hub_download("lab/ser", "set_aside.csv")).read_text()
        assert published.splitlines()[-1] == "calls/7,unreadable,\"there is no file '7.wav', nor another\""

    def test_names_in_any_script_are_no_paths(self, hub: Any, run: Run) -> None:
        folder = run("full")
        results = json.loads((folder / "results.json").read_text())
        (folder / "results.json").write_text(json.dumps(results | {"warnings": ["Корпус 北京"]}))
        push(folder, "lab/ser")
        there = json.loads(Path(hf_hub_download("lab/ser", "results.json")).read_text())
        assert there["warnings"] == ["Корпус 北京"]

    def test_a_token_in_a_file_stops_the_push(self, hub: Any, run: Run) -> None:
        folder = run("full")
        results = json.loads((folder / "results.json").read_text())
        results["command"] += f" --hub_token {hub.token}"
        (folder / "results.json").write_text(json.dumps(results))
        with pytest.raises(ValueError, match="holds an access token, which must not be published") as raised:
            push(folder, "lab/ser")
        assert hub.token not in str(raised.value)
        assert hub.repositories == {}

    def test_the_card_is_valid_and_shows_its_results_on_the_hub(self, hub: Any, run: Run) -> None:
        push(run("full"), "lab/ser", PushOptions(license="mit"))
        card = ModelCard.load("lab/ser")
        card.validate()
        uar = json.loads(Path(hf_hub_download("lab/ser", "results.json")).read_text())["metrics"]["test"]["uar"]
        shown = {result.metric_name or result.metric_type: result.metric_value for result in card.data.eval_results}
        assert any(
            value == pytest.approx(uar, abs=1e-4) or value == pytest.approx(100 * uar, abs=1e-2)
            for value in shown.values()
        )
        assert card.data.license == "mit"
        assert HfApi().model_info("lab/ser").pipeline_tag == "audio-classification"


SPEAKER, PICTURES = "jane-q-public", {"report/reliability.png", "report/robustness.png"}


def add_report(folder: Path, **changes: Any) -> list[str]:
    """A report as `scripts/evaluate.py` leaves it in a run's folder, and the names in it."""
    test = json.loads((folder / "results.json").read_text())["metrics"]["test"]
    parts = json.loads((folder / "splits.json").read_text())["parts"]
    clip, train_clip = parts["test"][0], parts["train"][0]
    report = {
        "made": {"at": "2025-03-04T05:06:07Z", "command": "python scripts/evaluate.py /home/jdoe/runs/full"},
        "clips": {"part": "test", "number": test["clips"]},
        "quality": {
            "overall": {"clips": test["clips"], "uar": test["uar"], "ece": 0.1, "log_loss": 0.9},
            "speakers": {SPEAKER: {"clips": test["clips"], "uar": test["uar"]}},
        },
        "robustness": {
            "clips": test["clips"],
            "conditions": [{"kind": "clean", "name": "clean", "uar": test["uar"], "difference": 0.0}],
        },
        "leakage": {
            "speakers": [SPEAKER],
            "duplicates": [{"clip": clip, "train_clip": train_clip, "similarity": 0.99, "exact": False}],
            "reason": None,
        },
        "notes": [f"2 clips have no answer, for instance: unreadable: /data/calls/{SPEAKER}.wav", "No cost."],
        **changes,
    }
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "report.html").write_text(f"<p>{SPEAKER}</p>")
    (folder / "report").mkdir()
    for name in ("robustness", "reliability", "speakers"):
        (folder / "report" / f"{name}.png").write_bytes(name.encode())
    return [SPEAKER, clip, train_clip]


class TestReport:
    def test_it_goes_up_without_names(self, hub: Any, run: Run) -> None:
        folder = run("full")
        names = add_report(folder)
        push(folder, "lab/ser")
        assert files("lab/ser") == CHECKPOINT | RESULTS | PICTURES | {"report.json"}
        there = Path(snapshot_download("lab/ser"))
        for path in there.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            for private in (*names, "jdoe", "data/calls"):
                assert private.encode() not in content, f"{path.name} holds {private}"
        here, pushed = (json.loads((place / "report.json").read_text()) for place in (folder, there))
        speaker, clip, train_clip = map(hash_name, names)
        assert pushed["quality"]["speakers"] == {speaker: here["quality"]["speakers"][SPEAKER]}
        assert pushed["leakage"]["speakers"] == [speaker]
        found = here["leakage"]["duplicates"][0] | {"clip": clip, "train_clip": train_clip}
        assert pushed["leakage"]["duplicates"] == [found]
        assert clip in json.loads((there / "splits.json").read_text())["parts"]["test"]
        assert pushed["notes"] == ["2 clips have no answer", "No cost."]
        assert pushed["quality"]["overall"] == here["quality"]["overall"]
        assert pushed["robustness"] == here["robustness"]
        assert (there / "report" / "robustness.png").read_bytes() == b"robustness"

    def test_the_card_shows_it(self, hub: Any, run: Run) -> None:
        folder = run("full")
        add_report(folder)
        push(folder, "lab/ser")
        card = Path(hf_hub_download("lab/ser", "README.md")).read_text()
        assert "It was made on 2025-03-04 by `python scripts/evaluate.py full`." in card
        assert "or nearly the same: 1, 0 of them" in card
        shown = {name for name in re.findall(r"\]\((.*\.png)\)", card) if name.startswith("report/")}
        assert shown == PICTURES

    def test_names_go_up_when_asked(self, hub: Any, run: Run) -> None:
        folder = run("full")
        names = add_report(folder)
        push(folder, "lab/ser", PushOptions(clip_names=True))
        assert files("lab/ser") == CHECKPOINT | RESULTS | PICTURES | {"report.json", "set_aside.csv"}
        text = Path(hf_hub_download("lab/ser", "report.json")).read_text()
        there = json.loads(text)
        assert list(there["quality"]["speakers"]) == there["leakage"]["speakers"] == [SPEAKER]
        assert [there["leakage"]["duplicates"][0][key] for key in ("clip", "train_clip")] == names[1:]
        assert "data/calls" not in text
        assert "jdoe" not in text

    def test_the_report_of_another_run_stays_here(self, hub: Any, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        folder = run("full")
        add_report(folder, clips={"part": "all", "number": 999})
        push(folder, "lab/ser")
        assert files("lab/ser") == CHECKPOINT | RESULTS
        assert "report.json" not in Path(hf_hub_download("lab/ser", "README.md")).read_text()
        assert caplog.text.count("report.json is left out: its clips are not the test part") == 1

    def test_that_of_an_earlier_model_is_not_left_behind(self, hub: Any, run: Run) -> None:
        folder = run("full")
        add_report(folder)
        push(folder, "lab/ser")
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="report/mine.png", repo_id="lab/ser")
        (folder / "report.json").unlink()
        plan, _ = push(folder, "lab/ser", dry_run=True)
        deleted = {name for name, change in plan.changes.items() if change == "deleted"}
        assert deleted == PICTURES | {"report.json"}
        push(folder, "lab/ser", PushOptions(overwrite=True))
        assert files("lab/ser") == CHECKPOINT | RESULTS | {"report/mine.png"}

    def test_a_downloaded_run_is_hashed_once(self, hub: Any, run: Run) -> None:
        folder = run("full")
        add_report(folder)
        push(folder, "lab/ser")
        (folder / "report.json").write_bytes(Path(hf_hub_download("lab/ser", "report.json")).read_bytes())
        plan, _ = push(folder, "lab/ser", dry_run=True)
        assert not plan.anything


class TestTheCardsCode:
    """It runs as it is printed, for anybody who has a `speech.wav`."""

    @pytest.mark.parametrize("revision", [None, "wide"])
    @pytest.mark.parametrize(("kind", "blocks"), [("full", 3), ("merged", 4), ("adapter", 3)])
    def test_from_the_hub(
        self,
        hub: Any,
        base: str,
        run: Run,
        kind: str,
        blocks: int,
        revision: str | None,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        push(run(kind), "lab/ser", PushOptions(base_model=base, revision=revision))
        soundfile.write(tmp_path / "speech.wav", np.stack([WAVE, WAVE], axis=1), 16_000)
        monkeypatch.chdir(tmp_path)
        code = re.findall(
            r"```python\n(.*?)```",
            Path(hf_hub_download("lab/ser", "README.md", revision=revision)).read_text(),
            flags=re.DOTALL,
        )
        assert len(code) == blocks
        expected = answers(hf_ser.load("lab/ser", revision=revision))
        for block in code:
            torch.manual_seed(11)
            names: dict[str, Any] = {"__name__": "__main__"}
            exec(compile(block, "README.md", "exec"), names)
            if "probabilities" in names:
                found = names["probabilities"].tolist()
                assert dict(zip(("angry", "happy", "sad"), found, strict=True)) == pytest.approx(expected, abs=1e-5)
            elif "timeline" not in names:
                assert answers(names["classifier"]) == pytest.approx(expected, abs=1e-5)
        printed = capsys.readouterr()
        assert "is not supported for audio-classification" not in printed.err

    def test_of_a_pull_request_opens_the_branch_that_it_is_for(self, hub: Any, run: Run) -> None:
        push(run("full"), "lab/ser", PushOptions(create_pr=True))
        assert "revision=" not in Path(hf_hub_download("lab/ser", "README.md", revision="refs/pr/1")).read_text()

    @pytest.mark.parametrize("revision", [None, "wide"])
    def test_of_a_model_that_brings_its_code(
        self, hub: Any, run: Run, python: Callable[..., Any], tmp_path: Path, revision: str | None
    ) -> None:
        """In a new process that has not imported this package, as it is printed."""
        folder = run("whisper")
        push(folder, "lab/ser", PushOptions(revision=revision))
        code = {"configuration_ser.py", "encoders_ser.py", "feature_extraction_ser.py", "modeling_ser.py"}
        assert files("lab/ser", revision=revision) == CHECKPOINT | RESULTS | code
        soundfile.write(tmp_path / "speech.wav", np.stack([WAVE, WAVE], axis=1), 16_000)
        card = Path(hf_hub_download("lab/ser", "README.md", revision=revision)).read_text()
        first, second, _ = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        assert first.count("trust_remote_code=True") == 1
        assert second.count("trust_remote_code=True") == 2
        script = f"import os, sys\nos.chdir({str(tmp_path)!r})\n{first}\n{second}\nassert 'hf_ser' not in sys.modules\n"
        done = python("-c", script, **hub.environment, HF_MODULES_CACHE=str(tmp_path / "modules"))
        assert done.returncode == 0, done.stderr[-3000:]
        expected = answers(hf_ser.load("lab/ser", revision=revision))
        best = max(expected, key=expected.__getitem__)
        assert f"{best}: {expected[best]:.2f}" in done.stdout
        found = [float(number) for number in re.findall(r"tensor\(\[(.*?)\]", done.stdout)[-1].split(",")]
        assert found == pytest.approx([expected[name] for name in ("angry", "happy", "sad")], abs=1e-4)

    def test_without_trust_it_is_refused_and_not_opened_at_random(
        self, hub: Any, run: Run, python: Callable[..., Any]
    ) -> None:
        push(run("whisper"), "lab/ser")
        code = "from transformers import pipeline; pipeline('audio-classification', model='lab/ser')"
        done = python("-c", code, **hub.environment)
        assert done.returncode != 0
        assert "contains custom code which must be executed" in done.stderr

    def test_no_code_that_only_its_owner_can_run(self, hub: Any, run: Run) -> None:
        """The adapter beside a merged checkpoint opens nowhere else, if its base model is a folder here."""
        push(run("merged"), "lab/ser")
        card = Path(hf_hub_download("lab/ser", "README.md")).read_text()
        assert len(re.findall("```python", card)) == 3
        assert "which was a local folder: whoever has it passes `base=`" in card


class TestWhatIsThereAlready:
    def test_a_dry_run_changes_nothing(self, hub: Any, run: Run) -> None:
        plan, address = push(run("full"), "lab/ser", dry_run=True)
        assert address is None
        assert hub.repositories == {}
        assert not plan.exists
        assert set(plan.changes.values()) == {"new"}
        assert "lab/ser (new)" in str(plan)
        assert "model.safetensors" in str(plan)

    def test_another_model_is_not_replaced_without_a_word(self, hub: Any, base: str, run: Run) -> None:
        push(run("merged"), "lab/ser", PushOptions(base_model=base))
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id="lab/ser")
        before = HfApi().model_info("lab/ser").sha
        full = run("full")
        with pytest.raises(FileExistsError, match="holds a model already, and this push would replace"):
            push(full, "lab/ser")
        plan, _ = push(full, "lab/ser", dry_run=True)
        assert plan.changes["adapter/adapter_model.safetensors"] == "deleted"
        assert plan.changes["model.safetensors"] == "changed"
        assert "notes.txt" not in plan.changes
        assert HfApi().model_info("lab/ser").sha == before

        push(full, "lab/ser", PushOptions(overwrite=True))
        assert files("lab/ser") == CHECKPOINT | RESULTS | {"notes.txt"}

    def test_the_same_again_makes_no_commit(self, hub: Any, run: Run) -> None:
        folder = run("full")
        push(folder, "lab/ser")
        before = HfApi().model_info("lab/ser").sha
        plan, _ = push(folder, "lab/ser")
        assert not plan.anything
        assert HfApi().model_info("lab/ser").sha == before

    def test_a_branch_leaves_the_main_one_alone(self, hub: Any, run: Run) -> None:
        push(run("full"), "lab/ser", PushOptions(revision="wide"))
        assert files("lab/ser") == set()
        assert files("lab/ser", revision="wide") == CHECKPOINT | RESULTS
        assert set(answers(hf_ser.load("lab/ser", revision="wide"))) == {"angry", "happy", "sad"}

    def test_a_new_branch_replaces_nothing_of_the_model_on_main(self, hub: Any, base: str, run: Run) -> None:
        push(run("merged"), "lab/ser", PushOptions(base_model=base))
        full = run("full")
        push(full, "lab/ser", PushOptions(revision="v2"))
        assert files("lab/ser", revision="v2") == CHECKPOINT | RESULTS
        assert "adapter/adapter_model.safetensors" in files("lab/ser")
        with pytest.raises(FileExistsError, match="holds a model already"):
            push(run("adapter"), "lab/ser", PushOptions(revision="v2", base_model=base))

    def test_what_another_has_pushed_meanwhile_is_not_overwritten(
        self, hub: Any, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = run("full")
        push(folder, "lab/ser")
        (folder / "README.md").unlink()
        results = json.loads((folder / "results.json").read_text())
        (folder / "results.json").write_text(json.dumps(results | {"warnings": ["another one"]}))
        preupload = HfApi.preupload_lfs_files

        def meanwhile(self: HfApi, *args: Any, **kwargs: Any) -> None:
            monkeypatch.setattr(HfApi, "preupload_lfs_files", preupload)
            HfApi().upload_file(path_or_fileobj=b"theirs", path_in_repo="notes.txt", repo_id="lab/ser")
            preupload(self, *args, **kwargs)

        monkeypatch.setattr(HfApi, "preupload_lfs_files", meanwhile)
        with pytest.raises(HubError, match="412"):
            push(folder, "lab/ser", PushOptions(overwrite=True))

    def test_a_pull_request_leaves_the_main_branch_alone(self, hub: Any, base: str, run: Run) -> None:
        push(run("merged"), "lab/ser", PushOptions(base_model=base))
        before = HfApi().model_info("lab/ser").sha
        folder = run("full")
        _, address = push(folder, "lab/ser", PushOptions(create_pr=True))
        assert address.endswith("/discussions/1")
        assert HfApi().model_info("lab/ser").sha == before
        expected = answers(hf_ser.load(folder))
        assert answers(hf_ser.load("lab/ser", revision="refs/pr/1")) == pytest.approx(expected, abs=1e-6)

    def test_a_private_repository(self, hub: Any, run: Run) -> None:
        push(run("full"), "lab/ser", PushOptions(private=True))
        assert HfApi().model_info("lab/ser").private
        with pytest.raises(HubError, match="is not on the Hub, or it is private and your token does not open it"):
            hf_ser.load("lab/ser", token=hub.login("other"))
        assert answers(hf_ser.load("lab/ser", token=hub.token))


class TestBadTokens:
    def test_a_wrong_one(self, hub: Any, run: Run) -> None:
        with pytest.raises(HubError, match="the Hub does not know your token"):
            push(run("full"), "lab/ser", PushOptions(token="hf_wrong"))

    def test_one_that_may_only_read(self, hub: Any, run: Run) -> None:
        with pytest.raises(HubError, match="your token may not do this. Make one with write access"):
            push(run("full"), "reader/ser", PushOptions(token=hub.login("reader", role="read")))

    def test_in_the_name_of_another(self, hub: Any, run: Run) -> None:
        with pytest.raises(HubError, match="your token may not do this"):
            push(run("full"), "someone/ser")

    def test_none(self, hub: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(HubError, match="you are not logged in"):
            push(run("full"), "ser")

    def test_a_name_that_is_none(self, hub: Any, run: Run) -> None:
        with pytest.raises(HubError, match="neither a folder that exists nor a name on the Hub"):
            push(run("full"), "lab/ser/one")


class TestBadConnections:
    def puts(self, hub: Any) -> list[str]:
        return [path for method, path in hub.requests if method == "PUT"]

    def test_an_upload_that_is_cut_is_tried_again(self, hub: Any, run: Run) -> None:
        hub.fail("PUT", "/lfs/", after_bytes=1000, times=2)
        folder = run("full")
        push(folder, "lab/ser")
        assert answers(hf_ser.load("lab/ser")) == pytest.approx(answers(hf_ser.load(folder)), abs=1e-6)

    def test_a_push_that_fails_leaves_the_run_and_goes_on_where_it_stopped(self, hub: Any, run: Run) -> None:
        folder = run("full")
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        hub.fail("POST", "/commit/", status=503, times=1000)
        with pytest.raises(
            HubError,
            match=r"error \(Server error '503.*Nothing is lost: .*scripts/push.py .* lab/ser` goes on from here",
        ):
            push(folder, "lab/ser")
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
        hub.faults.clear()
        uploaded = self.puts(hub)
        assert uploaded
        hub.requests.clear()
        push(folder, "lab/ser")
        assert self.puts(hub) == []  # it was all there
        assert files("lab/ser") == CHECKPOINT | RESULTS

    def test_what_the_hub_does_not_take_is_told_once_and_before_anything_is_there(self, hub: Any, run: Run) -> None:
        folder = run("full")
        for dry_run in (True, False):
            with pytest.raises(HubError) as raised:
                push(folder, "lab/ser", PushOptions(license="banana"), dry_run=dry_run)
            assert str(raised.value).count("banana") == 1
            assert "goes on from here" not in str(raised.value)
        assert hub.repositories == {}

    def test_a_refusal_does_not_promise_that_the_same_command_goes_on(self, hub: Any, run: Run) -> None:
        hub.fail("POST", "/commit/", status=400, times=1000)
        folder = run("full")
        with pytest.raises(HubError, match=f"Nothing is lost: the run is in {re.escape(str(folder))}$"):
            push(folder, "lab/ser")

    def test_how_to_go_on_has_all_options_but_the_token(self, hub: Any, run: Run) -> None:
        hub.fail("POST", "/repos/create", status=503, times=1000)
        options = PushOptions(private=True, revision="dev", license="mit", token=hub.token)
        with pytest.raises(HubError) as raised:
            push(run("full"), "lab/ser", options)
        assert "lab/ser --private --revision dev --license mit` goes on" in str(raised.value)
        assert hub.token not in str(raised.value)

    def test_an_answer_that_is_lost_makes_no_second_commit(self, hub: Any, run: Run) -> None:
        hub.fail("POST", "/commit/", lost_answer=True)
        push(run("full"), "lab/ser")
        assert len(HfApi().list_repo_commits("lab/ser")) == 2

    def test_no_hub_at_all(self, hub: Any, run: Run) -> None:
        hub.close()
        with pytest.raises(HubError, match="no connection to http://127.0.0.1"):
            push(run("full"), "lab/ser")


def test_a_folder_without_a_finished_run(hub: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no finished run: it has no results\.json"):
        push(tmp_path, "lab/ser")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("results.json", "{", r"results\.json: not as hf_ser writes it, but no JSON"),
        ("results.json", '{"uar": 0.5}', r"results\.json: not as hf_ser writes it: it has no base_model, method"),
        ("splits.json", '{"parts": {}}', r"splits\.json' is no splits\.json; it needs parts"),
    ],
)
def test_a_record_that_is_broken(hub: Any, run: Run, tmp_path: Path, name: str, text: str, says: str) -> None:
    folder = Path(shutil.copytree(run("full"), tmp_path / "copy"))
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=says):
        push(folder, "lab/ser")
    assert not HfApi().repo_exists("lab/ser")


def test_published_weights_are_the_runs(hub: Any, run: Run) -> None:
    folder = run("full")
    push(folder, "lab/ser")
    there = load_file(hf_hub_download("lab/ser", "model.safetensors"))
    here = load_file(folder / "model.safetensors")
    assert there.keys() == here.keys()
    assert all(torch.equal(there[name], here[name]) for name in here)
