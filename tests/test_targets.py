"""Arousal, valence and dominance in one scale, raters' votes as distributions, and how far raters agree."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Value, load_from_disk
from hypothesis import given
from hypothesis import strategies as st
from small_files import write_clip

from hf_ser.clips import as_clips, emotion_column, load_corpora
from hf_ser.corpora import CorpusError, read
from hf_ser.emotions import DIMENSIONS, EmotionSelection, parse_targets
from hf_ser.splits import check, describe, speaker_folds, train_test_split
from hf_ser.targets import agreement, count_votes, distributions
from hf_ser.training import ScriptArguments
from hf_ser.training.arguments import parse_arguments
from hf_ser.training.data import load_splits, stream_corpora

Make = Callable[..., Dataset]
#: Path, emotion, and whatever other columns a test gives.
Manifest = Callable[..., str]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """`manifest([{"emotion": "sad", "arousal": 0.5}, ...])` writes clips and their JSON lines, and gives `manifest=FILE`."""

    def make(lines: list[dict[str, Any]], name: str = "lab") -> str:
        for n, line in enumerate(lines):
            write_clip(tmp_path / name / f"{n}.wav", seconds=0.1)
            line.setdefault("path", f"{name}/{n}.wav")
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return f"manifest={file}"

    return make


class TestDimensions:
    def test_they_are_scaled_to_0_to_1(self, manifest: Manifest) -> None:
        lines = [
            {"emotion": "sad", "EmoAct": 1, "valence": 4},
            {"emotion": "happy", "EmoAct": 7, "valence": None},
            {"emotion": "happy", "EmoAct": 2.5},
        ]
        clips = load_corpora([manifest(lines)], dimension_range=(1, 7))
        assert clips["arousal"][:] == [0, 1, 0.25]
        assert clips["valence"][:] == [0.5, None, None]
        assert clips.features["arousal"] == Value("float32")
        assert "dominance" not in clips.column_names
        assert clips.info.ranges == {"lab": {"arousal": [1, 7], "valence": [1, 7]}}

    def test_corpora_with_and_without_them_go_together(self, manifest: Manifest, speech: Path) -> None:
        mine = manifest([{"emotion": "sad", "dominance": 0.5, "votes": "sad:2 happy:1"}, {"emotion": "happy"}])
        plain = manifest([{"emotion": "sad"}], "plain")
        clips = load_corpora([mine, plain, f"synthetic={speech}"], ["sad", "happy"])
        by_corpus = {
            name: clips.filter(lambda row, name=name: row["corpus"] == name) for name in ("lab", "plain", "synthetic")
        }
        assert by_corpus["lab"]["dominance"][:] == [0.5, None]
        assert by_corpus["lab"]["votes"][:] == [["sad", "sad", "happy"], None]
        assert by_corpus["plain"]["arousal"][:] == [None]
        assert None not in by_corpus["synthetic"]["arousal"][:]
        assert clips.info.ranges["synthetic"] == {name: [1, 7] for name in DIMENSIONS}

    def test_one_outside_its_range_is_an_error_where_it_is_a_target(
        self, manifest: Manifest, caplog: pytest.LogCaptureFixture
    ) -> None:
        lines = [{"emotion": "sad", "arousal": 0.5}, {"emotion": "happy", "arousal": 4}]
        with pytest.raises(
            CorpusError, match=r"lab/lab/1: arousal: found 4, expected 0 to 1; give .* as dimension_range"
        ):
            load_corpora([manifest(lines)], targets=["arousal"])
        assert load_corpora([manifest(lines)])["arousal"][:] == [0.5, None]
        assert "lab: 1 clips have no arousal, as theirs is outside 0 to 1, for instance lab/lab/1 (4)" in caplog.text

    @pytest.mark.parametrize(
        ("column", "options", "message"),
        [
            ({"valence": "high"}, {}, r"lab\.jsonl', row 2: valence: found 'high', expected a number"),
            ({"votes": "sad"}, {}, "row 2: votes: found 'sad', expected votes such as 'angry:3 neutral:2'"),
            ({}, {"dimension_range": (7, 1)}, "dimension_range: expected the lowest and the highest value, found 7 and 1"),
            ({}, {"targets": ["emotion", "arousal"]}, "no clip has arousal; corpora with it are iemocap, msp_improv, msp_podcast"),
        ],
    )  # fmt: skip
    def test_what_is_malformed_or_missing(
        self, manifest: Manifest, column: dict[str, str], options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            load_corpora([manifest([{"emotion": "sad"}, {"emotion": "happy", **column}])], **options)

    def test_one_that_is_constant(self, manifest: Manifest, caplog: pytest.LogCaptureFixture) -> None:
        load_corpora([manifest([{"arousal": 0.5}, {"arousal": 0.5}])], targets=["arousal"])
        assert "arousal: all clips have the same value" in caplog.text

    def test_a_manifest_may_have_nothing_else(self, manifest: Manifest) -> None:
        clips = load_corpora([manifest([{"act": 0.1}, {"act": 0.9}, {}])], targets=["arousal"], max_excluded=0.5)
        assert clips["arousal"][:] == pytest.approx([0.1, 0.9])
        assert clips["label"][:] == [None, None]
        assert [str(clip) for clip in clips.info.excluded] == ["lab/lab/2: unknown emotion (none is given)"]


class TestTargets:
    def test_their_weights(self) -> None:
        assert parse_targets(["emotion", "arousal=0.5"]) == {"emotion": 1.0, "arousal": 0.5}
        for wrong in ([], ["arousel"], ["arousal", "arousal=2"], ["arousal=-1"], ["arousal=high"]):
            with pytest.raises(
                ValueError, match="targets: found .*, expected .* emotion, emotion_distribution, arousal"
            ):
                parse_targets(wrong)

    def test_a_clip_without_agreement_is_kept_for_another_target(self, manifest: Manifest) -> None:
        lines = [
            {"emotion": "sad", "votes": "sad:3"},
            {"emotion": "happy", "votes": "happy:2 sad:1"},
            {"emotion": "no_agreement", "votes": "happy:2 sad:2"},
            {"emotion": "angry", "votes": "angry:3"},
            {"emotion": "angry", "arousal": 0.5},
        ]
        corpus = [manifest(lines)]
        alone = load_corpora(corpus, ["sad", "happy"])
        assert alone["label"][:] == [1, 0]
        assert alone.info.left_out == {"angry": 2, "no_agreement": 1}
        clips = load_corpora(corpus, ["sad", "happy"], targets=["emotion_distribution"])
        assert clips["label"][:] == [1, 0, None]
        assert clips.info.left_out == {"angry": 2}
        assert emotion_column(clips).counts() == {"happy": 1, "sad": 1}
        assert clips["emotion_distribution"][:] == [[0, 1], pytest.approx([2 / 3, 1 / 3]), [0.5, 0.5]]
        both = load_corpora(corpus, ["sad", "happy"], targets=["emotion", "arousal"])
        assert both["label"][:] == [1, 0, None]
        assert "emotion_distribution" not in both.column_names

    def test_without_the_emotion_a_clip_with_it_alone_is_left_out(self, manifest: Manifest) -> None:
        lines = [{"emotion": "sad", "arousal": 0.1}, {"emotion": "sad"}, {"emotion": "happy", "arousal": 0.2}]
        clips = load_corpora([manifest(lines)], ["sad", "happy"], targets=["arousal"])
        assert len(clips) == 2
        assert clips.info.left_out == {"sad": 1}
        assert clips.info.targets == ["arousal"]

    def test_splits_take_clips_without_an_emotion(self, manifest: Manifest) -> None:
        lines = [
            {"emotion": emotion, "speaker": f"s{n % 6}", "arousal": n / 30}
            for n, emotion in enumerate(["sad", "happy", "no_agreement"] * 10)
        ]
        clips = load_corpora([manifest(lines)], ["sad", "happy"], targets=["arousal"])
        assert len(clips) == 30
        for parts in (train_test_split(clips, test_size=0.3), *speaker_folds(clips, 3)):
            assert not check(parts)
            described = describe(parts)["parts"]
            assert sum(part["clips"] for part in described.values()) == 30
            assert sum(sum(part["emotions"].values()) for part in described.values()) == 20

    def test_on_the_command_line(self, manifest: Manifest) -> None:
        lines = [
            {"emotion": emotion, "EmoAct": n % 6 + 1, "speaker": f"s{n % 5}"}
            for n, emotion in enumerate(["sad", "happy"] * 10)
        ]
        script = ScriptArguments(corpora=[manifest(lines)], dimension_range=[1.0, 7.0], prepare_workers=1)
        parts = load_splits(script, 400, ["emotion", "arousal"])
        assert max(parts["train"]["arousal"]) <= 5 / 6 + 1e-6
        with pytest.raises(ValueError, match="dimension_range"):
            ScriptArguments(dimension_range=[7.0, 1.0])
        words = "--output_dir run --dimension_range 1 7 --minimum_raters 3 --vote_smoothing 0.5"
        script = parse_arguments(words.split()).script
        assert (script.dimension_range, script.minimum_raters, script.vote_smoothing) == ([1, 7], 3, 0.5)
        with pytest.raises(ValueError, match="minimum_raters"):
            ScriptArguments(minimum_raters=0)


def rated(votes: list[list[str]], **ratings: list[list[int]]) -> Dataset:
    """Clips with the raters' votes and ratings."""
    return Dataset(
        pa.table({"corpus": ["lab"] * len(votes), "votes": pa.array(votes, pa.list_(pa.string())), **ratings})
    )


class TestDistributions:
    def test_votes_for_merged_emotions_count_and_for_others_are_left_out(self) -> None:
        selection = EmotionSelection.parse(["neutral", "sad", "calm=neutral"])
        clips = [["calm", "neutral", "sad", "angry"], ["angry"], ["neutral+angry", "sad"]]
        votes = count_votes(rated(clips), selection)
        assert votes.counts.tolist() == [[2, 1], [0, 0], [0.5, 1]]
        assert votes.raters.tolist() == [3, 0, 2]
        found = distributions(votes, minimum_raters=1, smoothing=0)
        assert found[[0, 2]].tolist() == [pytest.approx([2 / 3, 1 / 3]), pytest.approx([1 / 3, 2 / 3])]
        assert np.isnan(found[1]).all()
        assert np.isnan(distributions(votes, minimum_raters=3, smoothing=0)[:, 0]).tolist() == [False, True, True]
        assert distributions(votes, 1, smoothing=1)[0].tolist() == pytest.approx([3 / 5, 2 / 5])
        six = count_votes(rated([["angry+fear+disgust+happy+surprise+other"]]), selection)
        assert six.chosen.tolist() == [[0, 0, 1]]

    @given(
        clips=st.lists(
            st.lists(st.sampled_from(["sad", "happy", "angry", "happy+sad"]), max_size=6), min_size=1, max_size=8
        ),
        smoothing=st.floats(0, 5),
    )
    def test_they_add_up_to_1(self, clips: list[list[str]], smoothing: float) -> None:
        found = distributions(count_votes(rated(clips), EmotionSelection.parse(["sad", "happy"])), 1, smoothing)
        for clip, shares in zip(clips, found, strict=True):
            inside = sum(word != "angry" for word in clip)
            assert np.isnan(shares).all() if inside == 0 else shares.sum() == pytest.approx(1)

    def test_one_rater_is_worth_a_word(self, manifest: Manifest, caplog: pytest.LogCaptureFixture) -> None:
        corpus = [manifest([{"votes": "sad:1"}, {"votes": "happy:1"}])]
        clips = load_corpora(corpus, targets=["emotion_distribution"])
        assert clips["emotion_distribution"][:] == [[0, 1], [1, 0]]
        assert "no clip has votes of two raters" in caplog.text
        with pytest.raises(
            CorpusError, match="no clip has emotion_distribution; corpora with it are crema_d, .* column votes"
        ):
            load_corpora(corpus, targets=["emotion_distribution"], minimum_raters=2)


class TestAgreement:
    #: Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C: 12 units, four observers.
    UNITS: ClassVar = [
        [1, 1, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4], [4, 4, 4, 4], [1, 1, 2, 1],
        [2, 2, 2, 2], [5, 5, 5], [1, 1], [3],
    ]  # fmt: skip

    def test_the_published_example(self) -> None:
        names = ["angry", "calm", "disgust", "fear", "happy"]
        rows = rated([[names[k - 1] for k in unit] for unit in self.UNITS], arousal_ratings=self.UNITS)
        selection = EmotionSelection.parse(names)
        found = agreement(rows, np.arange(12), count_votes(rows, selection))["lab"]
        assert found["emotion"]["alpha"] == pytest.approx(0.743, abs=5e-4)
        assert found["arousal"]["alpha"] == pytest.approx(0.849, abs=5e-4)
        assert found["arousal"] | {"alpha": None} == {"alpha": None, "raters": 41 / 12, "clips": 12}

    @pytest.mark.parametrize(
        ("votes", "alpha"),
        [
            ([["sad", "sad"], ["happy", "happy"]], 1.0),
            # Observed disagreement 1, expected 2/3: by hand.
            ([["sad", "happy"], ["sad", "happy"]], 1 - 1 / (2 / 3)),
            # What is none of the run's emotions is one category.
            ([["sad", "sad"], ["angry", "fear"]], 1.0),
            ([["sad", "sad"], ["sad", "sad"]], None),
            ([["sad"], ["happy"]], None),
            ([["sad+happy", "sad"], ["happy", "sad+happy"]], None),
        ],
    )  # fmt: skip
    def test_small_ones(self, votes: list[list[str]], alpha: float | None) -> None:
        rows = rated(votes)
        found = agreement(rows, np.arange(2), count_votes(rows, EmotionSelection.parse(["sad", "happy"])))
        assert found["lab"]["emotion"]["alpha"] == (alpha if alpha is None else pytest.approx(alpha))

    def test_only_clips_that_are_kept_count(self, manifest: Manifest) -> None:
        lines = [
            {"emotion": "sad", "votes": "sad:2"}, {"emotion": "happy", "votes": "happy:4"},
            {"emotion": "no_agreement", "votes": "sad:1 happy:1"},
        ]  # fmt: skip
        corpus = [manifest(lines)]
        assert load_corpora(corpus, ["sad", "happy"]).info.agreement == {
            "lab": {"emotion": {"alpha": 1.0, "raters": 3.0, "clips": 2}}
        }
        kept = load_corpora(corpus, ["sad", "happy"], targets=["emotion_distribution"]).info.agreement
        assert kept["lab"]["emotion"]["clips"] == 3
        assert kept["lab"]["emotion"]["alpha"] < 1


class TestADatasetOfTheUsersOwn:
    def test_dimensions_and_distributions_are_taken_over(self, make_dataset: Make) -> None:
        names = ClassLabel(names=["sad", "happy", "fear"])
        shares = [[0.5, 0.5, 0.0], None, [0.0, 0.25, 0.75]]
        mine = make_dataset(label=[0, 1, None], arousal=[0.5, None, 1], emotion_distribution=shares)
        clips = as_clips(mine.cast_column("label", names))
        assert clips["label"][:] == [0, 1, None]
        assert clips["arousal"][:] == [0.5, None, 1]
        assert clips["emotion_distribution"][:] == shares
        assert clips.features["label"] == names

    def test_columns_that_are_called_like_them_and_are_something_else(self, make_dataset: Make) -> None:
        others = {"act": ["greeting", "question"], "votes": [5, 3], "EmoVal": [4.0, 5.0]}
        clips = as_clips(make_dataset(label=["sad", "happy"], **others))
        assert len(clips) == 2
        assert {"arousal", "votes"}.isdisjoint(clips.column_names)
        assert clips["valence"][:] == [None, None]

    def test_what_it_may_not_have(self, make_dataset: Make) -> None:
        mine = make_dataset(label=["sad", "happy"], arousal=[0.5, 3.0])
        with pytest.raises(CorpusError, match="arousal: found 3, expected 0 to 1; give .* dimension_range"):
            as_clips(mine)
        for shares in ([0.5, 0.6], [0.5, None]):
            mine = make_dataset(label=["sad", "happy"], emotion_distribution=[shares, None])
            message = f"emotion_distribution: found {shares}, expected a share for each of the 2"
            with pytest.raises(CorpusError, match=re.escape(message)):
                as_clips(mine)
        with pytest.raises(CorpusError, match="without rows, expected clips"):
            as_clips(mine.select([]))

    def test_a_stream_has_them_without_audio(self, hub: Any, make_dataset: Make) -> None:
        mine = make_dataset(
            emotion=["sad", "happy", "other"], EmoVal=[1.0, 4.0, 7.0], votes=["sad:2", None, "happy:1 sad:1"]
        )
        mine.push_to_hub("lab/rated")
        script = ScriptArguments(corpora=["dataset=lab/rated"], dimension_range=[1.0, 7.0])
        clips = stream_corpora(script, 400, ["emotion", "valence"])
        assert clips["valence"][:] == [0, 0.5, 1]
        assert clips["label"][:] == [1, 0, None]
        assert clips["votes"][:] == [["sad", "sad"], None, ["happy", "sad"]]

    def test_clips_that_were_saved_are_read_again(self, manifest: Manifest, tmp_path: Path) -> None:
        corpus = manifest(
            [{"emotion": "sad", "arousal": 0.5, "votes": "sad:2"}, {"emotion": "happy", "votes": "sad:1 happy:2"}]
        )
        clips = load_corpora([corpus], targets=["emotion_distribution"])
        clips.save_to_disk(tmp_path / "saved")
        again = load_corpora([f"dataset={tmp_path / 'saved'}"], targets=["emotion_distribution"])
        for column in ("label", "arousal", "votes", "emotion_distribution"):
            assert again[column][:] == clips[column][:]
        of_disk = as_clips(load_from_disk(tmp_path / "saved"))
        assert of_disk["emotion_distribution"][:] == clips["emotion_distribution"][:]


class TestACorpusOfTheUsersOwn:
    def test_the_clip_has_the_mean_of_its_raters(self, tmp_path: Path) -> None:
        described = "pattern: (?P<clip>(?P<emotion>[a-z]+)\\d)\ndimensions: {arousal: [0, 100]}\ntables:\n"
        described += "  - {file: r.csv, key: [clip], columns: {clip: c, arousal: a}, raters: true}\n"
        (tmp_path / "mine.yaml").write_text(described, encoding="utf-8")
        (tmp_path / "r.csv").write_text("c,a\nsad1,10\nsad1,20\nhappy1,90\n", encoding="utf-8")
        for n, name in enumerate(("sad1", "happy1")):
            write_clip(tmp_path / f"{name}.wav", frequency=200 + 10 * n)
        clips = load_corpora([f"{tmp_path / 'mine.yaml'}={tmp_path}"], targets=["arousal"])
        assert dict(zip(clips["clip"][:], clips["arousal"][:], strict=True)) == {
            "mine/sad1": pytest.approx(0.15), "mine/happy1": pytest.approx(0.9),
        }  # fmt: skip
        (tmp_path / "mine.yaml").write_text(described.replace("[0, 100]", "[100]"), encoding="utf-8")
        with pytest.raises(
            CorpusError, match=r"dimensions: found arousal: \[100\], expected arousal, valence or dominance with"
        ):
            read(f"{tmp_path / 'mine.yaml'}={tmp_path}")
