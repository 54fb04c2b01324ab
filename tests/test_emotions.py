import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_ser.emotions import EMOTIONS, EmotionSelection, canonical


@pytest.mark.parametrize(
    ("word", "emotion"),
    [
        ("ANG", "angry"),
        (" Fearful ", "fear"),
        ("neu", "neutral"),
        ("pleasant surprised", "surprise"),
        ("Boredom", "boredom"),
    ],
)
def test_other_words_mean_the_same_emotion(word: str, emotion: str) -> None:
    assert canonical(word) == emotion


def test_select_and_merge() -> None:
    assert EmotionSelection.parse([]).names == EMOTIONS
    selection = EmotionSelection.parse(["neutral", "hap", "sad", "angry", "calm=neutral"])
    assert selection.names == ("angry", "happy", "neutral", "sad")
    assert [selection.label(word) for word in ("calm", "happy", "fear")] == ["neutral", "happy", None]
    assert EmotionSelection.parse(["calm=neutral"]).names == tuple(e for e in EMOTIONS if e != "calm")


def test_a_word_that_was_not_chosen_is_left_out_and_not_unknown() -> None:
    assert not EmotionSelection.parse([]).knows("boredom")
    assert EmotionSelection.parse(["boredom=sad"]).knows("boredom")
    selection = EmotionSelection.parse(["happy", "sad"])
    assert selection.knows("frustrated")
    assert selection.label("frustrated") is None
    assert not selection.knows("")


@pytest.mark.parametrize("words", [["happy"], ["calm="], ["=calm"], ["calm=neutral", "neutral=sad"]])
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="emotions: "):
        EmotionSelection.parse(words)


@given(st.lists(st.sampled_from(EMOTIONS), min_size=2, unique=True))
def test_labels_do_not_depend_on_the_order_they_were_named_in(names: list[str]) -> None:
    assert EmotionSelection.parse(names) == EmotionSelection.parse(names[::-1])
