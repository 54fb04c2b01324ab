"""What a reader of a split's figures must know."""

from collections.abc import Sequence

from hf_ser.corpora.columns import Words
from hf_ser.splits.split import Clips, Split, SplitError
from hf_ser.wording import counted


def check(split: Split, clips: Clips, emotions: Sequence[str]) -> list[str]:
    """
    What a reader of the run's figures must know: an emotion that a part lacks, a speaker that train shares with
    test or validation, clips whose speaker is unknown. Each as a sentence.

    Raises:
        SplitError: if train lacks an emotion: a model cannot learn it, and its figures would mean nothing.
    """
    warnings = []
    labels = Words.of(clips.labels)
    for part, rows in split.parts.items():
        present = labels.take(rows).counts()
        if absent := [emotion for emotion in emotions if emotion not in present]:
            if part == "train":
                raise SplitError(
                    f"{split.name} split: train has no clip of {', '.join(absent)}. Leave it out with --emotions, merge it "
                    "into another, or choose another split or seed."
                )
            warnings.append(f"{part} has no clip of {', '.join(absent)}: figures on it say nothing about that.")
    for part in ("test", "validation"):
        if shared := split.shared_speakers(clips, part):
            warnings.append(
                f"{counted(len(shared), 'speaker is', 'speakers are')} in both train and {part}: figures on {part} say nothing "
                "about a new speaker."
            )
    speakers = Words.of(clips.speakers)
    if unknown := sum(speakers.take(rows).unknown for rows in split.parts.values()):
        warnings.append(f"{unknown} clips have no known speaker: whether train and test share speakers cannot be told.")
    return warnings
