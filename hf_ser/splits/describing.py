"""What a split is like, and what a reader of its metrics must know."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from hf_ser.clips import column, emotion_column, emotions_of
from hf_ser.splits.making import SplitError
from hf_ser.wording import counted


def speakers_of(clips: Dataset) -> set[str]:
    """The known speakers of some clips."""
    return set(column(clips, "speaker").counts())


def shared_speakers(parts: Mapping[str, Dataset], part: str = "test") -> list[str]:
    """The speakers that are both in train and in `part`, computed from the clips, whatever the split is called."""
    return sorted(speakers_of(parts["train"]) & speakers_of(parts[part]))


def describe(parts: Mapping[str, Dataset]) -> dict[str, Any]:
    """The split in numbers: for each part its clips, speakers and emotions, and the speakers that train and others share."""
    made = next(iter(parts.values())).info.split
    return {
        "name": "given",
        **made,
        "parts": {
            part: {
                "clips": len(clips),
                "speakers": len(speakers_of(clips)),
                "clips_without_speaker": column(clips, "speaker").unknown,
                "emotions": emotion_column(clips).counts(),
            }
            for part, clips in parts.items()
        },
        **{
            f"speakers_shared_by_train_and_{part}": len(shared_speakers(parts, part)) if part in parts else None
            for part in {"test": None, "validation": None, **parts}
            if part != "train"
        },
    }


def check(parts: Mapping[str, Dataset]) -> list[str]:
    """
    What a reader of the metrics must know: an emotion that a part lacks, speakers that train shares with another part, clips
    whose speaker is unknown. Each as a sentence.

    Raises:
        SplitError: if train lacks an emotion: a model cannot learn it, and its metrics would mean nothing.
    """
    warnings = []
    name = parts["train"].info.split.get("name", "given")
    classified = "emotion" in parts["train"].info.targets
    for part, clips in parts.items() if classified else ():
        present = emotion_column(clips).counts()
        if absent := [emotion for emotion in emotions_of(clips) if emotion not in present]:
            if part == "train":
                raise SplitError(
                    f"{name} split: train has no clip of {', '.join(absent)}. Leave it out, merge it into another, or choose "
                    "another split or seed."
                )
            warnings.append(f"{part} has no clip of {', '.join(absent)}: metrics on it say nothing about that.")
    for part in sorted(parts):
        if part != "train" and (shared := shared_speakers(parts, part)):
            warnings.append(
                f"{counted(len(shared), 'speaker is', 'speakers are')} in both train and {part}: metrics on {part} say nothing "
                "about a new speaker."
            )
    if unknown := sum(column(clips, "speaker").unknown for clips in parts.values()):
        warnings.append(f"{counted(unknown, 'clip')} without a known speaker: whether parts share speakers is unknown.")
    return warnings
