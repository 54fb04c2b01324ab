import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_ser import splits
from hf_ser.splits import PARTS, Clips, Split, SplitError

NAMES_THAT_ARE_NONE = json.dumps({"parts": {part: [{"clip": part}] for part in PARTS}})
SETTINGS_THAT_ARE_NONE = json.dumps({"settings": [42], "parts": {part: [part] for part in PARTS}})
EMOTIONS = ("angry", "happy", "sad")


def clips_of(counts: dict[str, int], sessions: int = 0, official: list[str | None] | None = None) -> Clips:
    """`counts` clips of each speaker, the emotions in turn; names in an order that is not the speakers'."""
    speakers = [name for name, count in counts.items() for _ in range(count)]
    n = len(speakers)
    return Clips(
        names=[f"corpus/{i:04d}" for i in range(n)],
        labels=[EMOTIONS[i % len(EMOTIONS)] for i in range(n)],
        speakers=list(speakers),
        genders=["female" if ord(name[-1]) % 2 else "male" for name in speakers],
        corpora=["corpus"] * n,
        sessions=[f"s{i % sessions}" if sessions else None for i in range(n)],
        official=official or [None] * n,
    )


speakers_and_counts = st.dictionaries(
    st.integers(0, 99).map(lambda n: f"speaker_{n:02d}"), st.integers(1, 30), min_size=3, max_size=15
)


def assert_is_a_partition(split: Split, clips: Clips) -> None:
    rows = np.concatenate([split.parts[part] for part in PARTS])
    assert sorted(rows.tolist()) == list(range(len(clips)))
    assert all(len(split.parts[part]) for part in PARTS)


@given(counts=speakers_and_counts, seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_by_speaker_no_speaker_is_in_two_parts_and_no_clip_is_lost(counts: dict[str, int], seed: int) -> None:
    clips = clips_of(counts)
    split = splits.speaker(clips, seed=seed)
    assert_is_a_partition(split, clips)
    speakers = split.speakers(clips)
    assert sum(map(len, speakers.values())) == len(counts)
    assert split.shared_speakers(clips) == []


@given(n=st.integers(20, 200), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_random_has_its_shares_and_loses_no_clip(n: int, seed: int) -> None:
    clips = clips_of({"a": n})
    split = splits.random(clips, seed=seed)
    assert_is_a_partition(split, clips)
    assert len(split.parts["test"]) == round(0.2 * n)
    assert len(split.parts["validation"]) == round(0.1 * n)


@given(counts=speakers_and_counts, folds=st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_over_all_folds_every_speaker_is_tested_once(counts: dict[str, int], folds: int) -> None:
    clips = clips_of(counts)
    if len(counts) < max(folds, 3):
        with pytest.raises(SplitError):
            splits.kfold(clips, fold=0, folds=folds)
        return
    tested: Counter[str] = Counter()
    for fold in range(folds):
        if folds == 2 and len(counts) == 3 and fold == 0:
            with pytest.raises(SplitError, match="leaves 1 speaker"):
                splits.kfold(clips, fold=fold, folds=folds)
            return
        split = splits.kfold(clips, fold=fold, folds=folds)
        assert_is_a_partition(split, clips)
        assert not split.shared_speakers(clips)
        assert not split.speakers(clips)["validation"] & split.speakers(clips)["test"]
        tested.update(split.speakers(clips)["test"])
    assert tested == Counter(dict.fromkeys(counts, 1))


def test_the_folds_of_peft_ser() -> None:
    clips = clips_of({f"{1001 + n}": 2 for n in range(91)})  # CREMA-D's actors
    split = splits.kfold(clips, fold=0)
    speakers = {part: sorted(names) for part, names in split.speakers(clips).items()}
    assert speakers["test"] == [str(1001 + n) for n in range(19)]
    assert speakers["validation"] == [str(1091 - n) for n in reversed(range(14))]


def test_folds_by_session() -> None:
    clips = clips_of({"a": 30, "b": 30}, sessions=5)
    split = splits.kfold(clips, fold=4, by="session")
    assert {clips.sessions[i] for i in split.parts["test"]} == {"s4"}
    assert {clips.sessions[i] for i in split.parts["validation"]} == {"s3"}


def test_the_speaker_split_keeps_emotions_genders_and_corpora_near_their_shares() -> None:
    # 91 speakers of one corpus, and 4 of another with seven times as many clips each.
    big = clips_of({f"c_{n:02d}": 82 for n in range(91)} | {f"t_{n}": 600 for n in range(4)})
    split = splits.speaker(big)
    for column in (big.labels, big.genders):
        for value, count in Counter(column).items():
            share = sum(column[i] == value for i in split.parts["test"]) / count
            assert share == pytest.approx(0.2, abs=0.04), value


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    clips = clips_of({f"s{n}": 10 for n in range(20)})
    for make in (splits.speaker, splits.random):
        first, same, other = make(clips, seed=1), make(clips, seed=1), make(clips, seed=2)
        assert all((first.parts[part] == same.parts[part]).all() for part in PARTS)
        assert any(first.parts[part].tolist() != other.parts[part].tolist() for part in PARTS)


def test_the_split_by_speaker_stays_what_it_was() -> None:
    """Published splits are made again by their seed: these parts are those of the first release."""
    counts = {f"s{n:02d}": 3 + 7 * n % 11 for n in range(14)}
    speakers = splits.speaker(clips_of(counts), seed=3).speakers(clips_of(counts))
    assert {part: sorted(names) for part, names in speakers.items()} == {
        "train": ["s00", "s01", "s03", "s04", "s05", "s06", "s07", "s08", "s10", "s11"],
        "validation": ["s02", "s13"],
        "test": ["s09", "s12"],
    }


def test_the_random_split_says_that_it_shares_speakers() -> None:
    clips = clips_of({"a": 50, "b": 50})
    split = splits.random(clips)
    assert split.shared_speakers(clips) == ["a", "b"]
    assert split.describe(clips)["speakers_shared_by_train_and_test"] == 2
    assert any("2 speakers are in both train and test" in warning for warning in splits.check(split, clips, EMOTIONS))


def test_speakers_shared_by_train_and_validation_alone_are_warned_of() -> None:
    clips = clips_of({"a": 6, "b": 3}, official=["train"] * 3 + ["validation"] * 3 + ["test"] * 3)
    assert splits.check(splits.official(clips), clips, EMOTIONS) == [
        "1 speaker is in both train and validation: figures on validation say nothing about a new speaker."
    ]


def test_official_takes_the_corpus_own_and_leaves_the_rest_out() -> None:
    clips = clips_of({"a": 8}, official=["train"] * 4 + ["validation", "test", "test2", None])
    split = splits.official(clips)
    assert {part: rows.tolist() for part, rows in split.parts.items()} == {
        "train": [0, 1, 2, 3],
        "validation": [4],
        "test": [5],
    }


def test_saved_and_read_back_in_another_order(tmp_path: Path) -> None:
    clips = clips_of({f"s{n}": 5 for n in range(6)})
    split = splits.speaker(clips)
    split.save(tmp_path / "splits.json", clips)
    order = np.random.default_rng(0).permutation(len(clips))
    shuffled = clips.of(order)
    again = splits.from_file(shuffled, tmp_path / "splits.json")
    for part in PARTS:
        assert {shuffled.names[i] for i in again.parts[part]} == {clips.names[i] for i in split.parts[part]}
    assert json.loads((tmp_path / "splits.json").read_text())["shared_speakers"] == []


def test_a_file_with_hashes_in_place_of_names_is_read_back_and_names_no_clip(tmp_path: Path) -> None:
    clips = clips_of({f"s{n}": 5 for n in range(6)})
    split = splits.speaker(clips)
    path = tmp_path / "splits.json"
    split.save(path, clips)
    published = splits.hashed(json.loads(path.read_text()))
    path.write_text(json.dumps(published))
    assert not any(name in path.read_text() for name in clips.names)
    shared = splits.hashed({"parts": {}, "shared_speakers": ["corpus_anna"]})["shared_speakers"]
    assert shared == [splits.hash_name("corpus_anna")]
    assert splits.hashed(published) == published
    again = splits.from_file(clips, path)
    for part in PARTS:
        assert np.array_equal(again.parts[part], split.parts[part])
    splits.require_same(path, split, clips)
    with pytest.raises(SplitError, match="not those that the run began with"):
        splits.require_same(path, splits.speaker(clips, seed=1, test_share=0.4), clips)


def test_a_file_with_clips_that_are_gone_is_taken_without_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clips = clips_of({f"s{n}": 5 for n in range(6)})
    splits.speaker(clips).save(tmp_path / "splits.json", clips)
    fewer = clips.of(np.arange(1, len(clips)))
    split = splits.from_file(fewer, tmp_path / "splits.json")
    assert sum(map(len, split.parts.values())) == len(fewer)
    assert "1 of its clips are missing" in caplog.text


def test_a_part_that_lacks_an_emotion() -> None:
    clips = clips_of({"a": 30})
    parts = {part: np.arange(10 * n, 10 * n + 10) for n, part in enumerate(PARTS)}
    parts["test"] = np.array([i for i in parts["test"] if clips.labels[i] != "sad"])
    split = Split("x", {}, parts)
    assert any("test has no clip of sad" in warning for warning in splits.check(split, clips, EMOTIONS))
    parts["train"] = parts["test"]
    with pytest.raises(SplitError, match="train has no clip of sad"):
        splits.check(split, clips, EMOTIONS)


class TestBadInput:
    def test_one_speaker(self) -> None:
        with pytest.raises(SplitError, match=r"found 1 \(a\).*--split random"):
            splits.speaker(clips_of({"a": 30}))

    def test_more_folds_than_speakers(self) -> None:
        with pytest.raises(SplitError, match="found 4"):
            splits.kfold(clips_of(dict.fromkeys("abcd", 5)), fold=0, folds=5)

    def test_no_such_fold(self) -> None:
        with pytest.raises(SplitError, match="between 0 and 4, found 5"):
            splits.kfold(clips_of(dict.fromkeys("abcdefgh", 5)), fold=5)

    def test_clips_without_a_speaker(self) -> None:
        clips = clips_of({"a": 5, "b": 5, "c": 5})
        unknown = Clips(**{**vars(clips), "speakers": [None, *clips.speakers[1:]]})
        with pytest.raises(SplitError, match="1 of 15 have none, for instance 'corpus/0000'"):
            splits.speaker(unknown)
        assert any(
            "1 clips have no known speaker" in w for w in splits.check(splits.random(unknown), unknown, EMOTIONS)
        )

    def test_no_official_split(self) -> None:
        with pytest.raises(SplitError, match="no clip for train, validation, test"):
            splits.official(clips_of({"a": 5}))

    def test_shares_that_leave_nothing(self) -> None:
        with pytest.raises(SplitError, match="leave something to train on"):
            splits.random(clips_of({"a": 50}), test_share=0.9, validation_share=0.2)

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"parts": {"train": []}}', NAMES_THAT_ARE_NONE, SETTINGS_THAT_ARE_NONE]
    )
    def test_a_file_that_is_no_split(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(SplitError, match="is no splits.json"):
            splits.from_file(clips_of({"a": 5}), tmp_path / "s.json")

    def test_a_file_of_other_clips(self, tmp_path: Path) -> None:
        (tmp_path / "s.json").write_text(json.dumps({"parts": {part: [f"x/{part}"] for part in PARTS}}))
        with pytest.raises(
            SplitError, match="It names clips such as 'x/train'; the corpora have clips such as 'corpus/0000'"
        ):
            splits.from_file(clips_of({"a": 5}), tmp_path / "s.json")

    def test_a_clip_in_two_parts(self, tmp_path: Path) -> None:
        (tmp_path / "s.json").write_text(json.dumps({"parts": {part: ["corpus/0000"] for part in PARTS}}))
        with pytest.raises(SplitError, match="names 1 clips twice"):
            splits.from_file(clips_of({"a": 5}), tmp_path / "s.json")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SplitError, match="cannot be read: No such file"):
            splits.from_file(clips_of({"a": 5}), tmp_path / "none.json")
