"""A finished run goes to the Hub complete, in one commit, and with nothing private in it."""

import json
import multiprocessing
import os
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from other_processes import python
from peft import PeftModel
from predictions import WAVE, answers
from small_files import change, contents
from transformers import (
    AutoConfig,
    HubertConfig,
    HubertForSequenceClassification,
    Wav2Vec2Config,
    pipeline,
)

import hf_ser
from hf_ser.hub import HubError, push
from hf_ser.hub.pushing import check_repository
from hf_ser.splits.files import hash_name

Run = Callable[[str], Path]
RESULTS = {"README.md", "confusion_matrix.png", "results.json", "splits.json", "training_curves.png"}
CHECKPOINT = {"config.json", "model.safetensors", "preprocessor_config.json"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors", "config.json", "preprocessor_config.json"}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def files(repo_id: str, **options: Any) -> set[str]:
    return set(HfApi().list_repo_files(repo_id, **options)) - {".gitattributes"}


class TestWhatGoesUp:
    def test_a_full_run_in_one_commit(self, hub: Any, run: Run) -> None:
        folder = run("full")
        plan = push(folder, "ser")
        assert str(plan.url).startswith(f"{hub.endpoint}/lab/ser/commit/")
        assert files("lab/ser") == CHECKPOINT | RESULTS
        assert len(HfApi().list_repo_commits("lab/ser")) == 2  # the Hub makes the first with the repository
        assert answers(pipeline("audio-classification", model="lab/ser")) == pytest.approx(
            answers(hf_ser.pipeline(folder)), abs=1e-6
        )

    def test_a_run_whose_test_part_has_dimensions_alone(self, hub: Any, run: Run) -> None:
        folder = run("full")
        results = json.loads((folder / "results.json").read_text())
        drawn = {
            "level": 0.95,
            "resamples": 9,
            "clips": {"ccc": [0.4, 0.6]},
            "speakers": None,
            "speakers_reason": "few",
        }
        arousal = {"clips": 36, "ccc": 0.512, "ccc_by_speaker": None, "mae": 0.1, "intervals": drawn}
        results["targets"] |= {"arousal": 1.0}
        results["metrics"]["test"] = {"clips": 36, "ccc": 0.512, "dimensions": {"arousal": arousal}}
        results["probe"] = None
        (folder / "results.json").write_text(json.dumps(results))
        push(folder, "lab/ser")
        (title,) = (commit.title for commit in HfApi().list_repo_commits("lab/ser") if "on test" in commit.title)
        assert title == "full: 0.512 CCC on test (speaker split)"

    def test_a_regular_expression_is_no_path(self, hub: Any, base: str, run: Run) -> None:
        """PEFT's configuration of this tuner has one."""
        folder = run("prompt")
        push(folder, "lab/ser", base_model=base)
        assert answers(hf_ser.pipeline("lab/ser")) == pytest.approx(answers(hf_ser.pipeline(folder)), abs=1e-6)

    def test_a_merged_run_has_its_adapter_beside_it(self, hub: Any, base: str, run: Run) -> None:
        folder = run("merged")
        push(folder, "lab/ser", base_model=base)
        assert files("lab/ser") == CHECKPOINT | RESULTS | {f"adapter/{name}" for name in ADAPTER}
        expected = answers(hf_ser.pipeline(folder))
        assert answers(pipeline("audio-classification", model="lab/ser")) == pytest.approx(expected, abs=1e-5)
        assert answers(hf_ser.pipeline("lab/ser")) == pytest.approx(expected, abs=1e-5)
        assert answers(hf_ser.pipeline("lab/ser", subfolder="adapter")) == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("kind", ["adapter", "merged"])
    def test_an_adapter_alone_opens_on_its_base_from_the_hub(self, hub: Any, base: str, run: Run, kind: str) -> None:
        folder = run(kind)
        push(folder, "lab/adapter", base_model=base, adapter_only=True)
        assert files("lab/adapter") == ADAPTER | RESULTS
        expected = answers(hf_ser.pipeline(folder))
        torch.manual_seed(3)  # nothing of it is random
        assert answers(hf_ser.pipeline("lab/adapter")) == pytest.approx(expected, abs=1e-5)
        model = HubertForSequenceClassification.from_pretrained(
            base, config=AutoConfig.from_pretrained("lab/adapter"), ignore_mismatched_sizes=True, dtype=torch.float32
        )
        model = PeftModel.from_pretrained(model, "lab/adapter").eval()
        opened = hf_ser.pipeline("lab/adapter")
        values = opened.feature_extractor(WAVE, sampling_rate=16_000, return_tensors="pt").input_values
        with torch.no_grad():
            torch.testing.assert_close(model(values).logits, opened.model(values).logits, atol=1e-5, rtol=0)
        # A plain pipeline must not open it with a random head in place of its own.
        says = r"has no attribute 'logits'|ignore_mismatched_sizes|Target modules .* not found"
        with pytest.raises((ValueError, AttributeError), match=says):
            answers(pipeline("audio-classification", model="lab/adapter"))

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"hidden_size": 48}, "is not the adapter's base model: its hidden_size is 48, expected 32"),
            (
                {"feat_extract_norm": "group"},
                "is not the adapter's base model: its feat_extract_norm is group, expected layer",
            ),
            ({}, "is not the adapter's base model: its model_type is wav2vec2, expected hubert"),
            # A plain pipeline would open the adapter on that head, and call happy what is sad.
            ({"id2label": {0: "sad", 1: "angry", 2: "happy"}}, r"has 3 labels of its own \(sad, angry, happy\)"),
        ],
        ids=["size", "norm", "type", "labels"],
    )
    def test_an_adapter_alone_on_a_base_that_it_does_not_fit_is_refused(
        self, hub: Any, run: Run, tiny_hubert: Path, changes: dict[str, Any], says: str
    ) -> None:
        config = HubertConfig.from_pretrained(tiny_hubert, **changes) if changes else Wav2Vec2Config()
        config.push_to_hub("lab/other")
        with pytest.raises(ValueError, match=f"lab/other {says}"):
            push(run("adapter"), "lab/adapter", base_model="lab/other")
        assert not HfApi().repo_exists("lab/adapter")

    @pytest.mark.parametrize(
        ("kind", "options", "error", "says"),
        [
            ("adapter", {"base_model": "lab/gone"}, HubError, "lab/gone is not on the Hub"),
            ("adapter", {}, ValueError, "needs its base model, which is a local folder"),
            ("full", {"adapter_only": True}, ValueError, "is a run without an adapter"),
        ],
    )
    def test_an_adapter_alone_without_a_base_is_refused(
        self, hub: Any, run: Run, kind: str, options: dict[str, Any], error: type[Exception], says: str
    ) -> None:
        with pytest.raises(error, match=says):
            push(run(kind), "lab/adapter", **options)
        assert hub.repositories == {}

    def test_no_path_no_name_no_token_and_no_pickle(self, hub: Any, run: Run, tmp_path: Path) -> None:
        folder = run("merged")
        names = [SPEAKER, *(name for part in read(folder / "splits.json")["parts"].values() for name in part)]
        add_report(folder)
        push(folder, "lab/ser")
        home = f"{Path.home()}/" if Path.home() != Path("/") else "/home/"
        secrets = [home, "jdoe", "data/calls", str(tmp_path), "/tmp/", hub.token, "hf_" + "Secret0123" * 3, *names]
        for path in filter(Path.is_file, Path(snapshot_download("lab/ser")).rglob("*")):
            assert path.suffix in (".md", ".json", ".png", ".safetensors") or path.name == ".gitattributes"
            for secret in secrets:
                assert secret.encode() not in path.read_bytes(), f"{path.name} contains {secret}"

    def test_clip_names_go_up_when_asked_and_paths_do_not(self, hub: Any, run: Run) -> None:
        folder = run("full")
        names = add_report(folder)
        with (folder / "excluded.csv").open("a") as file:
            file.write("calls/7,unreadable,\"there is no file '/srv/lab/7.wav', nor another\"\n")
        change(folder / "results.json", warnings=["Корпус 北京"])
        push(folder, "lab/ser", clip_names=True)
        assert files("lab/ser") == CHECKPOINT | RESULTS | PICTURES | {"report.json", "excluded.csv"}
        there = Path(snapshot_download("lab/ser"))
        assert read(there / "splits.json")["parts"] == read(folder / "splits.json")["parts"]
        last = (there / "excluded.csv").read_text().splitlines()[-1]
        assert last == "calls/7,unreadable,\"there is no file '7.wav', nor another\""
        assert read(there / "results.json")["warnings"] == ["Корпус 北京"]  # no part of a path
        report = read(there / "report.json")
        assert list(report["quality"]["speakers"]) == report["leakage"]["speakers"] == [SPEAKER]
        assert [report["leakage"]["duplicates"][0][key] for key in ("clip", "train_clip")] == names[1:]
        assert not re.search("data/calls|jdoe", str(report))

    def test_a_token_in_a_file_stops_the_push(self, hub: Any, run: Run) -> None:
        folder = run("full")
        change(folder / "results.json", command=f"python scripts/finetune.py --hub_token {hub.token}")
        with pytest.raises(ValueError, match="contains an access token, which must not be published") as raised:
            push(folder, "lab/ser")
        assert hub.token not in str(raised.value)
        assert hub.repositories == {}


EXAMPLE = Path(__file__).parents[2] / "model_cards/hubert-mini-ravdess-full/report.json"
SPEAKER, PICTURES = "jane-q-public", {"report/reliability.png", "report/robustness.png"}


def add_report(folder: Path, **changes: Any) -> list[str]:
    """A report as `scripts/evaluate.py` leaves it in a run's folder, and the names in it."""
    test, parts = read(folder / "results.json")["metrics"]["test"], read(folder / "splits.json")["parts"]
    clip, train_clip = parts["test"][0], parts["train"][0]
    report = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    report["made"]["command"] = "python scripts/evaluate.py /home/jdoe/runs/full"
    report["clips"] |= {"number": test["clips"]}
    report["quality"] |= {"overall": report["quality"]["overall"] | {"uar": test["uar"]}}
    report["quality"]["speakers"] = {SPEAKER: {"clips": test["clips"], "uar": test["uar"]}}
    duplicate = {"clip": clip, "train_clip": train_clip, "similarity": 0.99, "exact": False}
    report["leakage"] = {"speakers": [SPEAKER], "duplicates": [duplicate], "reason": None}
    report["notes"] = [
        f"2 clips have no answer, for instance: unreadable: /data/calls/{SPEAKER}.wav",
        "No splits.json: unknown.",
    ]
    report |= changes
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "report.html").write_text(f"<p>{SPEAKER}</p>")
    (folder / "report").mkdir()
    for name in ("robustness", "reliability", "speakers"):
        (folder / "report" / f"{name}.png").write_bytes(name.encode())
    return [SPEAKER, clip, train_clip]


class TestReport:
    def test_it_goes_up_without_names_and_the_card_shows_it(self, hub: Any, run: Run) -> None:
        folder = run("full")
        names = add_report(folder)
        push(folder, "lab/ser")
        assert files("lab/ser") == CHECKPOINT | RESULTS | PICTURES | {"report.json"}
        there = Path(snapshot_download("lab/ser"))
        here, pushed = read(folder / "report.json"), read(there / "report.json")
        speaker, clip, train_clip = map(hash_name, names)
        assert pushed["quality"]["speakers"] == {speaker: here["quality"]["speakers"][SPEAKER]}
        assert pushed["leakage"]["speakers"] == [speaker]
        found = here["leakage"]["duplicates"][0] | {"clip": clip, "train_clip": train_clip}
        assert pushed["leakage"]["duplicates"] == [found]
        assert clip in read(there / "splits.json")["parts"]["test"]
        assert pushed["notes"] == ["2 clips have no answer", "No splits.json: unknown."]
        assert pushed["quality"]["overall"] == here["quality"]["overall"]
        assert pushed["robustness"] == here["robustness"]
        text = (there / "README.md").read_text()
        assert {name for name in re.findall(r"\]\((.*\.png)\)", text) if name.startswith("report/")} == PICTURES

    def test_the_report_of_another_run_stays_here(self, hub: Any, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        folder = run("full")
        add_report(folder, clips={"part": "all", "number": 999})
        push(folder, "lab/ser")
        assert files("lab/ser") == CHECKPOINT | RESULTS
        assert caplog.text.count("report.json is left out: its clips are not the test part") == 1

    def test_a_downloaded_one_is_not_hashed_again_and_an_earlier_one_not_left_behind(self, hub: Any, run: Run) -> None:
        folder = run("full")
        add_report(folder)
        push(folder, "lab/ser")
        (folder / "report.json").write_bytes(Path(hf_hub_download("lab/ser", "report.json")).read_bytes())
        assert not push(folder, "lab/ser", dry_run=True).anything
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="report/mine.png", repo_id="lab/ser")
        (folder / "report.json").unlink()
        push(folder, "lab/ser", overwrite=True)
        assert files("lab/ser") == CHECKPOINT | RESULTS | {"report/mine.png"}


class TestTheCardsCode:
    """It runs as it is printed, for anybody who has a `speech.wav`."""

    @pytest.mark.parametrize(("kind", "revision"), [("merged", "wide"), ("adapter", None)])
    def test_from_the_hub(
        self, hub: Any, base: str, run: Run, kind: str, revision: str | None, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        push(run(kind), "lab/ser", base_model=base, revision=revision)
        soundfile.write(tmp_path / "speech.wav", np.stack([WAVE, WAVE], axis=1), 16_000)
        monkeypatch.chdir(tmp_path)
        card = Path(hf_hub_download("lab/ser", "README.md", revision=revision)).read_text()
        (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        expected = answers(hf_ser.pipeline("lab/ser", revision=revision))
        torch.manual_seed(11)
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(code, "README.md", "exec"), names)
        assert answers(names["classifier"]) == pytest.approx(expected, abs=1e-5)
        assert "is not supported for audio-classification" not in capsys.readouterr().err

    def test_of_a_model_that_brings_its_code(self, hub: Any, run: Run, tmp_path: Path) -> None:
        """In a new process that has not imported this package, as it is printed."""
        push(run("whisper"), "lab/ser")
        code = {"configuration_ser.py", "encoders_ser.py", "feature_extraction_ser.py", "modeling_ser.py"}
        assert files("lab/ser") == CHECKPOINT | RESULTS | code
        soundfile.write(tmp_path / "speech.wav", np.stack([WAVE, WAVE], axis=1), 16_000)
        card = Path(hf_hub_download("lab/ser", "README.md")).read_text()
        (snippet,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        assert snippet.count("trust_remote_code=True") == 1
        script = f"""
import os, sys
from transformers import pipeline
os.chdir({str(tmp_path)!r})
try:  # it is not opened with a random head
    pipeline("audio-classification", model="lab/ser")
except ValueError as error:
    assert "contains custom code which must be executed" in str(error)
else:
    raise AssertionError("opened without trust")
{snippet}
assert "hf_ser" not in sys.modules
"""
        done = python("-c", script, **hub.environment, HF_MODULES_CACHE=str(tmp_path / "modules"))
        assert done.returncode == 0, done.stderr[-3000:]
        expected = answers(hf_ser.pipeline("lab/ser"))
        best = max(expected, key=expected.__getitem__)
        assert f"{best}: {expected[best]:.2f}" in done.stdout


class TestWhatIsThereAlready:
    def test_a_dry_run_changes_nothing(self, hub: Any, run: Run) -> None:
        plan = push(run("full"), "lab/ser", dry_run=True)
        assert plan.url is None
        assert hub.repositories == {}
        assert plan.changes == dict.fromkeys(CHECKPOINT | RESULTS, "new")
        assert re.search("new +model.safetensors", str(plan))

    def test_another_model_is_not_replaced_without_a_word(self, hub: Any, base: str, run: Run) -> None:
        push(run("merged"), "lab/ser", base_model=base)
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id="lab/ser")
        before = HfApi().model_info("lab/ser").sha
        full = run("full")
        with pytest.raises(FileExistsError, match=r"lab/ser holds \d+ files that this push would replace"):
            push(full, "lab/ser")
        plan = push(full, "lab/ser", dry_run=True)
        assert plan.changes["adapter/adapter_model.safetensors"] == "deleted"
        assert plan.changes["model.safetensors"] == "changed"
        assert "notes.txt" not in plan.changes
        assert HfApi().model_info("lab/ser").sha == before

        push(full, "lab/ser", overwrite=True)
        assert files("lab/ser") == CHECKPOINT | RESULTS | {"notes.txt"}

    def test_a_file_that_no_push_writes_is_no_reason_to_refuse(self, hub: Any, run: Run) -> None:
        HfApi().create_repo("lab/ser")
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="LICENSE", repo_id="lab/ser")
        check = partial(check_repository, "ser", revision=None, overwrite=False, license=None, token=None)
        assert check() == "lab/ser"
        push(run("full"), "lab/ser")
        assert files("lab/ser") == CHECKPOINT | RESULTS | {"LICENSE"}
        with pytest.raises(FileExistsError, match=r"lab/ser holds \d+ files that this push would replace"):
            check()

    def test_the_same_again_makes_no_commit(self, hub: Any, run: Run) -> None:
        folder = run("full")
        hub.fail("POST", "/commit/", lost_answer=True)
        with pytest.raises(HubError, match="no connection"):
            push(folder, "lab/ser")
        assert not push(folder, "lab/ser").anything
        assert len(HfApi().list_repo_commits("lab/ser")) == 2

    def test_a_new_branch_replaces_nothing_of_the_model_on_main(self, hub: Any, base: str, run: Run) -> None:
        push(run("merged"), "lab/ser", base_model=base)
        full = run("full")
        push(full, "lab/ser", revision="v2")
        assert files("lab/ser", revision="v2") == CHECKPOINT | RESULTS
        assert set(answers(hf_ser.pipeline("lab/ser", revision="v2"))) == {"angry", "happy", "sad"}
        assert "adapter/adapter_model.safetensors" in files("lab/ser")
        with pytest.raises(FileExistsError, match="files that this push would replace"):
            push(run("adapter"), "lab/ser", revision="v2", base_model=base)

    def test_what_another_has_pushed_meanwhile_is_not_overwritten(
        self, hub: Any, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = run("full")
        push(folder, "lab/ser")
        change(folder / "results.json", warnings=["another one"])
        preupload = HfApi.preupload_lfs_files

        def meanwhile(self: HfApi, *args: Any, **kwargs: Any) -> None:
            monkeypatch.setattr(HfApi, "preupload_lfs_files", preupload)
            HfApi().upload_file(path_or_fileobj=b"theirs", path_in_repo="notes.txt", repo_id="lab/ser")
            preupload(self, *args, **kwargs)

        monkeypatch.setattr(HfApi, "preupload_lfs_files", meanwhile)
        with pytest.raises(HubError, match="412"):
            push(folder, "lab/ser", overwrite=True)

    def test_a_pull_request_leaves_the_main_branch_alone(self, hub: Any, base: str, run: Run) -> None:
        push(run("merged"), "lab/ser", base_model=base)
        before = HfApi().model_info("lab/ser").sha
        folder = run("full")
        plan = push(folder, "lab/ser", create_pr=True)
        assert str(plan.url).endswith("/discussions/1")
        assert HfApi().model_info("lab/ser").sha == before
        # Its card is for the branch that it will be merged into.
        assert "revision=" not in Path(hf_hub_download("lab/ser", "README.md", revision="refs/pr/1")).read_text()
        expected = answers(hf_ser.pipeline(folder))
        assert answers(hf_ser.pipeline("lab/ser", revision="refs/pr/1")) == pytest.approx(expected, abs=1e-6)

    def test_a_private_repository(self, hub: Any, run: Run) -> None:
        push(run("full"), "lab/ser", private=True)
        assert HfApi().model_info("lab/ser").private
        with pytest.raises(HubError, match="is not on the Hub, or it is private and your token cannot read it"):
            hf_ser.pipeline("lab/ser", token=hub.login("other"))
        assert answers(hf_ser.pipeline("lab/ser", token=hub.token))


class TestFailing:
    @pytest.mark.parametrize(
        ("user", "name", "says"),
        [
            ("nobody", "lab/ser", "the Hub does not accept your token"),
            ("reader", "reader/ser", "your token has no write access. Create one that has"),
            ("lab", "someone/ser", "your token has no write access"),
            (None, "ser", "hf auth login"),
            ("lab", "lab/ser/one", "neither an existing folder nor a name on the Hub"),
        ],
    )
    def test_a_wrong_token_or_name(
        self, hub: Any, run: Run, monkeypatch: pytest.MonkeyPatch, user: str | None, name: str, says: str
    ) -> None:
        tokens: dict[str | None, str] = {
            "lab": hub.token,
            "reader": hub.login("reader", role="read"),
            "nobody": "hf_wrong",
        }
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(OSError, match=says):
            push(run("full"), name, token=tokens.get(user))

    def test_a_push_that_fails_leaves_the_run_and_continues_where_it_stopped(self, hub: Any, run: Run) -> None:
        folder = run("full")
        before = contents(folder)
        hub.fail("POST", "/commit/", status=503, times=1000)
        with pytest.raises(HubError, match=r"error \(Server error '503.*The run in .*full is unchanged") as raised:
            push(folder, "lab/ser", token=hub.token)
        assert hub.token not in str(raised.value)
        assert contents(folder) == before
        hub.faults.clear()
        assert "PUT" in {method for method, _ in hub.requests}
        hub.requests.clear()
        push(folder, "lab/ser")
        assert "PUT" not in {method for method, _ in hub.requests}  # the weights were there
        assert files("lab/ser") == CHECKPOINT | RESULTS

    def test_a_push_that_is_killed_is_repeated(self, hub: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        folder, answer = run("full"), hub.answer

        def push_until(number: int, done: bool) -> None:
            """Kills the process that pushes at its `number`-th request, before or after the Hub has done what it asks for."""
            coming = iter(range(1, number + 1))

            def answer_or_kill(request: Any) -> Any:
                last = next(coming, None) == number
                if last and not done:
                    process.kill()
                    process.join()
                answered = answer(request) if not last or done else None
                if last and done:
                    process.kill()
                return answered

            process = multiprocessing.get_context("fork").Process(target=push, args=(folder, "lab/ser"))
            monkeypatch.setattr(hub, "answer", answer_or_kill)
            process.start()
            process.join(60)
            monkeypatch.setattr(hub, "answer", answer)

        push(folder, "lab/ser")
        requests, expected = len(hub.requests), files("lab/ser")
        commit = next(i for i, (_, path) in enumerate(hub.requests, 1) if "/commit/" in path)
        every = [(number, done) for number in range(1, requests + 1) for done in (False, True)]
        for number, done in (
            every if os.environ.get("HF_SER_KILLS") else [(commit - 1, True), (commit, False), (commit, True)]
        ):
            hub.repositories.clear()
            push_until(number, done)
            if HfApi().repo_exists("lab/ser"):
                assert files("lab/ser") in (set(), expected)
            push(folder, "lab/ser")
            assert files("lab/ser") == expected
            assert len(HfApi().list_repo_commits("lab/ser")) == 2

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_a_licence_that_the_hub_refuses_leaves_no_repository(self, hub: Any, run: Run, dry_run: bool) -> None:
        with pytest.raises(HubError) as raised:
            push(run("full"), "lab/ser", license="banana", dry_run=dry_run)
        assert str(raised.value).count("banana") == 1
        assert hub.repositories == {}

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("results.json", r"holds no finished run: it has no results\.json"),
            ("splits.json", r"splits\.json' cannot be read"),
        ],
    )
    def test_a_record_that_is_missing(self, hub: Any, run: Run, name: str, says: str) -> None:
        folder = run("full")
        (folder / name).unlink()
        with pytest.raises((ValueError, FileNotFoundError), match=says):
            push(folder, "lab/ser")
        assert hub.repositories == {}


def test_a_push_on_a_full_disk(
    hub: Any, run: Callable[[str], Path], disk: tuple[Path, Callable[[str], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, mount = disk
    found = run("full")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    mount("remount,size=8k")
    with pytest.raises(OSError, match=rf"No space left on device: '{folder}/hf_ser-push-"):
        push(found, "lab/ser")
    assert not list(folder.iterdir())
    assert not hub.repositories
    mount("remount,size=50m")
    assert push(found, "lab/ser").anything
