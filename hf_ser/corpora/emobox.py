"""
EmoBox's metadata (arXiv 2406.07162): the clips of one of its 32 corpora, and its folds of them.

A corpus is a folder `data/<corpus>` of EmoBox's repository: `fold_<n>/<corpus>_<part>_fold_<n>.jsonl` has a line for each clip
(`key`, `wav`, `emo`), `label_map.json` the emotions' names, and `data.seg.wrd.stm` the speakers. The audio lies where EmoBox
expects it: `wav` is relative to the repository's root.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_ser.corpora.entries import Entry
from hf_ser.corpora.reading import inside
from hf_ser.corpora.rows import CorpusError, Row, stem
from hf_ser.emotions import canonical
from hf_ser.wording import listed

NAME = "emobox"
#: EmoBox's words for the parts of a fold.
PARTS = {"train": "train", "valid": "validation", "test": "test"}
SPEAKER = re.compile(r"<id=(?P<key>.*?),lang=.*?,spk=(?P<speaker>.*?),emotion=.*>")


def read(folder: Path, entry: Entry | None = None) -> list[Row]:
    """
    The clips of one corpus of EmoBox, in the folder `data/<corpus>` of its repository; with the `entry` of the corpus also the
    sentences in its file names.

    Returns:
        Rows whose columns `fold_1` and so on have `train`, `validation` or `test`; a clip that a fold has in two parts has both
        (`train+test`), and is in no part of a split.

    Raises:
        CorpusError: if the folder has no folds, a line is malformed, or the clips are segments of longer files.
    """
    corpus = folder.name
    places: dict[str, dict[str, list[str]]] = {}
    clips: dict[str, dict[str, Any]] = {}
    for fold, part, path in _files(folder):
        for place, line in _lines(path):
            if not {"key", "wav", "emo"} <= line.keys():
                raise CorpusError(f"emobox: {place}: expected key, wav and emo, found {listed(line)}")
            if line.get("start_time"):
                raise CorpusError(
                    f"emobox: {place}: the clips of {corpus} are segments of longer files. Cut them, and use a manifest."
                )
            clips[line["key"]] = line
            places.setdefault(line["key"], {}).setdefault(fold, []).append(part)
    label_map, segments = folder / "label_map.json", folder / "data.seg.wrd.stm"
    names = json.loads(label_map.read_text(encoding="utf-8")) if label_map.is_file() else {}
    lines = segments.read_text(encoding="utf-8").splitlines() if segments.is_file() else []
    speakers = {match["key"]: match["speaker"] for line in lines if (match := SPEAKER.search(line))}
    root = folder.resolve().parents[1]
    return [
        Row(
            path=str(root / line["wav"]),
            name=stem(Path(line["wav"].removeprefix(f"downloads/{corpus}/"))),
            emotion=canonical(names.get(line["emo"], line["emo"])),
            speaker=speakers.get(key),
            extras={
                **{
                    fold: "+".join(sorted(parts, key=list(PARTS.values()).index)) for fold, parts in places[key].items()
                },
                **_statement(entry, line["wav"]),
            },
        )
        for key, line in clips.items()
    ]


def _files(folder: Path) -> list[tuple[str, str, Path]]:
    """Each fold (`fold_1`), part and file."""
    found = []
    for path in sorted(folder.glob("fold_*/*.jsonl")):
        fold = path.parent.name
        if match := re.fullmatch(rf"{re.escape(folder.name)}_(train|valid|test)_{fold}", path.stem):
            found.append((fold, PARTS[match[1]], path))
    if not found:
        raise CorpusError(
            f"emobox: no fold in {str(folder)!r}, which holds {inside(folder)}. Give the folder of one corpus in EmoBox's "
            "repository, for instance emobox=EmoBox/data/emodb."
        )
    return found


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        place = f"{path}, line {number}"
        try:
            yield place, dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise CorpusError(f"emobox: {place}: expected a JSON object, found {text[:40]!r}") from error


def _statement(entry: Entry | None, path: str) -> dict[str, str]:
    if entry is None or "statement" not in entry.columns:
        return {}
    match = re.fullmatch(rf"(?:.*/)?{entry.pattern}", stem(Path(path)), re.IGNORECASE)
    return {"statement": match["statement"]} if match and match["statement"] else {}
