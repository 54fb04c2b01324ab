import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Value, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_ser import official_split, speaker_folds, splits, train_test_split
from hf_ser.clips import ClipsInfo
from hf_ser.splits import PARTS, SplitError, cross_corpus_split, read_splits, save_splits, shared_speakers, speakers_of
from hf_ser.splits.files import hash_name, hashed

EMOTIONS = ("angry", "happy", "sad")


def clips_of(
    counts: dict[str | None, int], official: list[str | None] | None = None, emotions: int = 3, corpus: str = "corpus"
) -> Dataset:
    """`counts` clips of each speaker, the emotions in turn; names in an order that is not the speakers'."""
    speakers = [name for name, count in counts.items() for _ in range(count)]
    n = len(speakers)
    text = Value("string")
    features = Features(
        dict.fromkeys(("clip", "speaker", "gender", "corpus", "session", "split"), text)
        | {"label": ClassLabel(names=EMOTIONS)}
    )
    table = pa.table(
        {
            "clip": [f"{corpus}/{i:04d}" for i in range(n)],
            "speaker": speakers,
            "gender": ["female" if ord((name or "a")[-1]) % 2 else "male" for name in speakers],
            "corpus": [corpus] * n,
            "session": [None] * n,
            "split": official or [None] * n,
            "label": [i % emotions for i in range(n)],
        },
        schema=features.arrow_schema,
    )
    return Dataset(table, info=ClipsInfo(features=features))


def speakers_in(parts: Mapping[str, Dataset]) -> dict[str, list[str]]:
    return {part: sorted(speakers_of(clips)) for part, clips in parts.items()}


def names_in(parts: Mapping[str, Dataset]) -> dict[str, list[str]]:
    return {part: list(clips["clip"]) for part, clips in parts.items()}


speakers_and_counts = st.dictionaries(
    st.integers(0, 99).map(lambda n: f"speaker_{n:02d}"), st.integers(1, 30), min_size=3, max_size=15
)


def assert_is_a_partition(parts: Mapping[str, Dataset], clips: Dataset) -> None:
    assert sorted(name for part in PARTS for name in parts[part]["clip"]) == list(clips["clip"])
    assert all(len(parts[part]) for part in PARTS)


@given(counts=speakers_and_counts, seed=st.integers(0, 5))
def test_by_speaker_no_speaker_is_in_two_parts_and_no_clip_is_lost(counts: dict[str, int], seed: int) -> None:
    clips = clips_of(counts)
    parts = train_test_split(clips, seed=seed)
    assert_is_a_partition(parts, clips)
    assert sum(map(len, speakers_in(parts).values())) == len(counts)
    assert shared_speakers(parts) == []


@given(n=st.integers(20, 200), seed=st.integers(0, 5))
def test_random_has_its_shares_and_loses_no_clip(n: int, seed: int) -> None:
    clips = clips_of({"a": n})
    parts = train_test_split(clips, "random", seed=seed)
    assert_is_a_partition(parts, clips)
    assert len(parts["test"]) == round(0.2 * n)
    assert len(parts["validation"]) == round(0.1 * n)


@given(counts=speakers_and_counts, folds=st.integers(2, 5))
def test_over_all_folds_every_speaker_is_tested_once(counts: dict[str, int], folds: int) -> None:
    clips = clips_of(counts)
    if len(counts) < max(folds, 3) or (folds == 2 and len(counts) == 3):
        with pytest.raises(SplitError):
            speaker_folds(clips, folds)
        return
    tested: Counter[str] = Counter()
    for parts in speaker_folds(clips, folds):
        assert_is_a_partition(parts, clips)
        assert not shared_speakers(parts)
        assert not speakers_of(parts["validation"]) & speakers_of(parts["test"])
        tested.update(speakers_of(parts["test"]))
    assert tested == Counter(dict.fromkeys(counts, 1))


def test_the_folds_of_peft_ser() -> None:
    clips = clips_of({f"{1001 + n}": 2 for n in range(91)})  # CREMA-D's actors
    folds = list(map(speakers_in, speaker_folds(clips)))
    assert folds[0]["test"] == [str(1001 + n) for n in range(19)]
    assert folds[0]["validation"] == [str(1091 - n) for n in reversed(range(14))]
    assert [len(parts["test"]) for parts in folds] == [19, 18, 18, 18, 18]
    assert {len(parts["validation"]) for parts in folds} == {14}


def test_the_speaker_split_keeps_emotions_genders_and_corpora_near_their_shares() -> None:
    # 91 speakers of one corpus, and 4 of another with seven times as many clips each.
    big = clips_of({f"c_{n:02d}": 82 for n in range(91)} | {f"t_{n}": 600 for n in range(4)})
    test = train_test_split(big)["test"]
    for column in ("label", "gender"):
        for value, count in Counter(big[column]).items():
            assert list(test[column]).count(value) / count == pytest.approx(0.2, abs=0.04), value


@pytest.mark.parametrize("by", ["speaker", "random"])
def test_the_same_seed_gives_the_same_split_and_another_another(by: str) -> None:
    clips = clips_of({f"s{n}": 10 for n in range(20)})
    first, same, other = (names_in(train_test_split(clips, by, seed=seed)) for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_the_split_by_speaker_stays_what_it_was() -> None:
    """Published splits are made again by their seed: these parts are those of the first release."""
    counts = {f"s{n:02d}": 3 + 7 * n % 11 for n in range(14)}
    assert speakers_in(train_test_split(clips_of(counts), seed=3)) == {
        "train": ["s00", "s01", "s03", "s04", "s05", "s06", "s07", "s08", "s10", "s11"],
        "validation": ["s02", "s13"],
        "test": ["s09", "s12"],
    }


def test_the_random_split_says_that_it_shares_speakers() -> None:
    parts = train_test_split(clips_of({None: 1, "a": 50, "b": 50}), "random")
    assert shared_speakers(parts) == ["a", "b"]
    assert splits.describe(parts)["speakers_shared_by_train_and_test"] == 2
    assert splits.check(parts) == [
        "2 speakers are in both train and test: metrics on test say nothing about a new speaker.",
        "2 speakers are in both train and validation: metrics on validation say nothing about a new speaker.",
        "1 clip without a known speaker: whether parts share speakers is unknown.",
    ]


def test_speakers_shared_by_train_and_validation_alone_are_warned_of() -> None:
    parts = official_split(clips_of({"a": 6, "b": 3}, official=["train"] * 3 + ["validation"] * 3 + ["test"] * 3))
    assert splits.check(parts) == [
        "1 speaker is in both train and validation: metrics on validation say nothing about a new speaker."
    ]


def test_official_takes_the_corpus_own_and_leaves_the_rest_out(tmp_path: Path) -> None:
    clips = clips_of({"a": 8}, official=["train"] * 4 + ["validation", "test", "test2", None])
    parts = official_split(clips)
    assert names_in(parts) == {
        "train": [f"corpus/000{n}" for n in range(4)],
        "validation": ["corpus/0004"],
        "test": ["corpus/0005"],
        "test2": ["corpus/0006"],
    }
    assert parts["test"].info.left_out_by_split == {"corpus": 1}
    save_splits(parts, tmp_path / "splits.json")
    assert names_in(read_splits(clips, tmp_path / "splits.json")) == names_in(parts)


def test_saved_and_read_back_in_another_order_and_without_a_clip(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clips = clips_of({f"s{n}": 5 for n in range(6)})
    parts, path = train_test_split(clips), tmp_path / "splits.json"
    save_splits(parts, path)
    again = read_splits(clips.select(range(len(clips))[::-1]), path)
    assert {part: names[::-1] for part, names in names_in(again).items()} == names_in(parts)
    assert json.loads(path.read_text())["shared_speakers"] == []
    fewer = read_splits(clips.select(range(1, len(clips))), path)
    assert sum(map(len, fewer.values())) == len(clips) - 1
    assert "1 of its clips are missing" in caplog.text


def test_a_file_with_hashes_in_place_of_names_is_read_back_and_names_no_clip(tmp_path: Path) -> None:
    clips = clips_of({f"s{n}": 5 for n in range(6)})
    parts, path = train_test_split(clips), tmp_path / "splits.json"
    save_splits(parts, path)
    published = hashed(json.loads(path.read_text()))
    path.write_text(json.dumps(published))
    assert not any(name in path.read_text() for name in clips["clip"])
    shared = hashed({"parts": {}, "shared_speakers": ["corpus_anna"]})["shared_speakers"]
    assert shared == [hash_name("corpus_anna")]
    assert hashed(published) == published
    assert names_in(read_splits(clips, path)) == names_in(parts)
    splits.require_same_splits(path, parts)
    with pytest.raises(SplitError, match="not those that the run began with"):
        splits.require_same_splits(path, train_test_split(clips, seed=1, test_size=0.4))


def test_a_part_that_lacks_an_emotion() -> None:
    whole, lacking = clips_of({"a": 9}), clips_of({"b": 9}, emotions=2)
    assert any(
        "test has no clip of sad" in warning
        for warning in splits.check({"train": whole, "validation": whole, "test": lacking})
    )
    with pytest.raises(SplitError, match="train has no clip of sad"):
        splits.check({"train": lacking, "validation": whole, "test": whole})


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (lambda: train_test_split(clips_of({"a": 30})), r"found 1 \(a\).*at random"),
        (lambda: train_test_split(clips_of({"a": 30}), "gender"), "by='gender': expected 'speaker' or 'random'"),
        (lambda: speaker_folds(clips_of(dict.fromkeys("abcd", 5)), 5), "found 4"),
        (lambda: train_test_split(clips_of({None: 1, "a": 5, "b": 5, "c": 4})), "1 of 15 have none, for instance 'corpus/0000'"),
        (lambda: official_split(clips_of({"a": 5})), "no clip for train and test"),
        (lambda: train_test_split(clips_of({"a": 50}), "random", test_size=0.9, validation_size=0.2), "leave clips to train on"),
        (lambda: read_splits(clips_of({"a": 5}), Path("nowhere.json")), "cannot be read: No such file"),
    ],
)  # fmt: skip
def test_what_cannot_be_split(split: Callable[[], object], message: str) -> None:
    with pytest.raises(SplitError, match=message):
        split()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "is no splits.json") for text in ("", "[]", '{"parts": {"train": []}}')),
        (json.dumps({"parts": {part: [{"clip": part}] for part in PARTS}}), "is no splits.json"),
        (json.dumps({"settings": [42], "parts": {part: [part] for part in PARTS}}), "is no splits.json"),
        (json.dumps({"parts": {part: [f"x/{part}"] for part in PARTS}}), "It names clips such as 'x/train'; the corpora have"),
        (json.dumps({"parts": {part: ["corpus/0000"] for part in PARTS}}), "names 1 clips twice"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_split_or_of_other_clips(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(SplitError, match=message):
        read_splits(clips_of({"a": 5}), tmp_path / "s.json")


def corpora_of(**counts: dict[str | None, int]) -> Dataset:
    """The clips of several corpora, each with its speakers."""
    together = concatenate_datasets([clips_of(speakers, corpus=corpus) for corpus, speakers in counts.items()])
    return Dataset(together.data, info=ClipsInfo(features=together.features))


@given(first=speakers_and_counts, second=speakers_and_counts, third=speakers_and_counts)
@settings(max_examples=10)
def test_across_corpora_the_others_are_test_parts_and_no_speaker_is_in_two_parts(
    first: dict[str, int], second: dict[str, int], third: dict[str, int]
) -> None:
    named = {
        corpus: {f"{corpus}_{name}": n for name, n in counts.items()}
        for corpus, counts in (("a", first), ("b", second), ("c", third))
    }
    clips = corpora_of(**named)
    parts = cross_corpus_split(clips, ["a", "c"])
    assert list(parts) == ["train", "validation", "test", "test_b"]
    assert sorted(name for part in parts.values() for name in part["clip"]) == sorted(clips["clip"])
    assert set(parts["test_b"]["corpus"]) == {"b"}
    assert {corpus for part in PARTS for corpus in parts[part]["corpus"]} == {"a", "c"}
    assert sum(len(speakers_of(part)) for part in parts.values()) == sum(map(len, named.values()))


def test_across_corpora_bad_input() -> None:
    clips = corpora_of(a={"a1": 3, "a2": 3, "a3": 3}, b={"b1": 3})
    with pytest.raises(SplitError, match="train_corpora: found no clip of d; the corpora are a and b"):
        cross_corpus_split(clips, ["d"])
    with pytest.raises(
        SplitError, match=r"train_corpora=\['a', 'b'\]: expected some of the corpora, and one more to test on"
    ):
        cross_corpus_split(clips, ["a", "b"])
    with pytest.raises(SplitError, match="expected three speakers at least"):
        cross_corpus_split(clips, ["b"])
    with pytest.raises(SplitError, match="leave clips to train on, found 20 and 0.1"):
        cross_corpus_split(clips, ["a"], test_size=20)


def test_where_no_clip_validates_a_fifth_of_the_training_speakers_does() -> None:
    counts = {f"speaker_{n:02d}": 4 for n in range(11)}
    parts = official_split(clips_of(counts, official=["train"] * 40 + ["test"] * 4))
    assert speakers_in(parts)["validation"] == ["speaker_08", "speaker_09"]
    unknown = official_split(clips_of({None: 44}, official=["train"] * 40 + ["test"] * 4))
    assert [len(unknown[part]) for part in PARTS] == [32, 8, 4]
