"""How the clips were split, and which speakers the parts share."""

from collections.abc import Mapping
from typing import Any

from hf_ser.hub.card.words import Results, table
from hf_ser.wording import counted


def warnings(results: Results) -> list[str]:
    """What a reader must know before any figure."""
    found = [str(warning) for warning in results.get("warnings") or []]
    for part in ("validation", "test"):
        shared = results["split"].get(f"speakers_shared_by_train_and_{part}")
        if shared and not any(f"both train and {part}" in warning for warning in found):
            found.insert(0, f"{counted(shared, 'speaker is', 'speakers are')} in both train and {part}: figures on {part} say "
                            "nothing about a new speaker.")  # fmt: skip
    return found


def shared_speakers(results: Results) -> int | None:
    """How many speakers train and test share, `None` where some are not known."""
    split = results["split"]
    unknown = any(part.get("clips_without_speaker") for part in split["parts"].values())
    shared: int | None = split.get("speakers_shared_by_train_and_test")
    return None if unknown and not shared else shared


def speakers(part: Results) -> str:
    """`4 speakers`, or `4 known speakers (and 20 clips of unknown ones)`; nothing where none is known."""
    number, unknown = part.get("speakers"), part.get("clips_without_speaker")
    if not number:
        return ""
    if not unknown:
        return counted(number, "speaker")
    return f"{counted(number, 'known speaker')} (and {counted(unknown, 'clip')} of unknown ones)"


def split_kind(split: Mapping[str, Any]) -> str:
    """What kind of split it is: of one that was read from a file, how that was made, if the file says so."""
    return str(split["name"] if split["name"] != "file" else split.get("made_as") or "file")


def split_in_words(results: Results) -> str:
    """What the split's name means."""
    split = results["split"]
    name = split_kind(split)
    words = {
        "speaker": "whole speakers go into one part each, so that the test part has voices that the model has not learned from",
        "random": f"clips are drawn at random, whoever speaks, as HuBERT-SER does; {_random(results)}",
        "kfold": _fold(split),
        "official": "the parts that the corpus itself defines",
        "file": "the parts that a file names",
    }
    text = words.get(name, "")
    if split["name"] == "file":
        text += f"{'; ' if text else ''}read from the splits.json of an earlier run"
    return f": {text}." if text else "."


def _random(results: Results) -> str:
    shared = shared_speakers(results)
    if shared is None:
        return "whether the same voices are in train and test cannot be told"
    if shared:
        return "the same voices are in train and test, and the figures say nothing about a new speaker"
    return "here no speaker came into both train and test"


def _fold(split: Results) -> str:
    by, number, folds = split.get("by", "speaker"), split.get("fold"), split.get("folds")
    which = f"fold {number + 1} of {folds}, " if number is not None and folds else ""
    return (
        f"{which}PEFT-SER's folds by {by}: no {by} is in two parts. It is one fold of several; the others would give other "
        "figures"
    )


def parts_table(results: Results) -> str:
    """Clips and speakers of each part."""
    parts = results["split"]["parts"]
    rows = [
        [name, part.get("clips"), part.get("speakers"), part.get("clips_without_speaker") or None]
        for name, part in parts.items()
    ]
    known = "Known speakers" if any(row[3] for row in rows) else "Speakers"
    return table(["Part", "Clips", known, "Clips of unknown speakers"], rows)


def shared_note(results: Results) -> str:
    """How many speakers the parts share."""
    split = results["split"]
    sentences = [
        f"Speakers shared by train and {part}: {shared}."
        for part in ("test", "validation")
        if (shared := split.get(f"speakers_shared_by_train_and_{part}")) is not None
    ]
    return " ".join(sentences)


def unknown_note(results: Results) -> str:
    """How many clips have no known speaker."""
    unknown = sum(part.get("clips_without_speaker") or 0 for part in results["split"]["parts"].values())
    if not unknown:
        return ""
    have = "has" if unknown == 1 else "have"
    return f"{counted(unknown, 'clip')} {have} no known speaker; whether train and test share those cannot be told."
