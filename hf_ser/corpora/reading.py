"""Reads a corpus as its entry describes it."""

import csv
import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from hf_ser.corpora.entries import Entry, Table
from hf_ser.corpora.rows import (
    AUDIO_SUFFIXES,
    FEMALE,
    MALE,
    CorpusError,
    Row,
    audio_files,
    gender,
    split,
    stem,
    to_number,
    walk,
)
from hf_ser.emotions import canonical
from hf_ser.wording import listed

logger = logging.getLogger(__name__)

Fields = dict[str, str | None]
Key = tuple[str, ...]
#: The votes and the ratings for a clip, as `Row` has them.
Judgements = tuple[list[str], dict[str, list[float]]]


class Clip(NamedTuple):
    """A clip while its fields are collected."""

    path: str
    name: str
    fields: Fields
    performance: str | None = None
    source: str = ""
    judged: Judgements | None = None


def read_entry(entry: Entry, root: Path) -> list[Row]:
    """
    The clips of a corpus below a folder, or those of a text file with the names of its audio files, one a line.

    Raises:
        CorpusError: if there is no such folder or no clip of the corpus in it, or a table is missing or malformed.
    """
    clips = _match(entry, root)
    for table in entry.tables:
        clips = _join(entry, table, clips, root)
    rows = [_row(entry, clip) for clip in clips]
    if entry.without_speaker and (unknown := sum(row.speaker is None for row in rows)):
        logger.warning(
            "%s: %d of %d clips have an unknown speaker: their emotion is replaced by %s",
            entry.name, unknown, len(rows), entry.without_speaker,
        )  # fmt: skip
    return rows


def _match(entry: Entry, root: Path) -> list[Clip]:
    """The audio files whose names match, with the fields of the names."""
    files = audio_files(root, entry.name)
    within = root.resolve().name  # `root` may be the folder of one speaker
    pattern = re.compile(rf"(?:.*/)?(?P<text_>{entry.pattern})", re.IGNORECASE)
    clips = []
    highest: dict[str, str] = {}
    for path in files:
        name = stem(path)
        if match := pattern.fullmatch(f"{within}/{name}"):
            fields = match.groupdict()
            source = (fields.get("source") or "").lower()
            performance = fields.pop("text_").lower().replace("/", "_").replace(source, "", 1)
            highest[performance] = max(highest.get(performance, ""), source)
            clips.append(Clip(os.path.join(root, path), name, _decode(entry, fields), performance, source))
    if not clips:
        found = f"no audio file; the folder holds {inside(root)}"
        if files:
            found = f"{len(files)} audio files, but none with such a name (for instance {str(files[0])!r})"
        raise _nothing(entry, root, "clip of it", found)
    return [clip for clip in clips if clip.source == highest[clip.performance or ""]]


def _join(entry: Entry, table: Table, clips: list[Clip], root: Path) -> list[Clip]:
    """The clips with the fields of a table."""
    if table.raters:
        judged = _judgements(entry, table, root)
        return [clip._replace(judged=judged.get(_key(table, clip.fields), clip.judged)) for clip in clips]
    lines = _read_table(entry, table, root)
    if not table.lists_clips:
        return [clip._replace(fields=clip.fields | lines.get(_key(table, clip.fields), {})) for clip in clips]
    audio = {_key(table, clip.fields): clip.path for clip in reversed(clips)}
    joined = []
    for key, fields in lines.items():
        name = "/".join(filter(None, map(fields.get, table.key)))
        joined.append(Clip(audio.pop(key, str(root / f"{name}.wav")), name, fields))
    if audio:
        example = Path(min(audio.values())).stem
        logger.warning("%s: %d audio files have no label, for instance %s", entry.name, len(audio), example)
    return joined


def _row(entry: Entry, clip: Clip) -> Row:
    fields = {name: value for name, value in clip.fields.items() if value}
    given = dict(fields)
    for name, template in entry.compose.items():
        with suppress(KeyError):  # a field that this clip lacks
            fields[name] = template.format_map(given)
    speaker = fields.get("speaker")
    genders = ((FEMALE, entry.female), (MALE, entry.male))
    by_speaker = (word for word, who in genders if who and re.fullmatch(who, speaker or "", re.IGNORECASE))
    emotion = canonical(fields.get("emotion", ""))
    votes, ratings = clip.judged or ([], {})
    dimensions = {name: sum(given) / len(given) for name, given in ratings.items() if given}
    for name in entry.dimensions:
        if (value := to_number(fields.get(name), f"{entry.name}: {clip.name}: {name}")) is not None:
            dimensions[name] = value
    return Row(
        path=clip.path,
        name=clip.name,
        emotion=emotion if speaker else entry.without_speaker or emotion,
        speaker=speaker,
        gender=gender(fields.get("gender")) or next(by_speaker, None),
        session=fields.get("session"),
        split=split(fields.get("split")),
        performance=clip.performance,
        dimensions=dimensions,
        votes=votes,
        ratings=ratings,
        extras={column: fields[column] for column in entry.columns if column in fields},
    )


def _decode(entry: Entry, fields: Fields) -> Fields:
    """Fields with the meanings of their codes; empty ones are none."""
    decoded: Fields = {}
    for name, value in fields.items():
        code = (value or "").strip()
        if name == "clip" and os.path.splitext(code)[1].lower() in AUDIO_SUFFIXES:
            code = os.path.splitext(code)[0]
        meanings = entry.codes.get(name, {})
        decoded[name] = meanings.get(code.lower(), meanings.get("*", code)) if code else None
    return decoded


def _judgements(entry: Entry, table: Table, root: Path) -> dict[Key, Judgements]:
    """The votes and ratings in a table, by the key of the clips."""
    judged: dict[Key, Judgements] = {}
    meant: dict[str, str] = {}  # millions of lines repeat a few words
    above: Fields = {}
    for place, line in _records(entry, table, root):
        about = {name: line.get(name) for name in table.key}
        if about != above:  # most lines of a clip follow each other
            above, key = about, _key(table, _decode(entry, about))
            votes, ratings = judged.setdefault(key, ([], {name: [] for name in entry.dimensions}))
        for column in table.votes or ["emotion"]:
            value = (line.get(column) or "").strip()
            words, times = (column, int(value)) if value.isdecimal() else (value, 1)
            if words not in meant:
                decoded = (_decode(entry, {"emotion": word})["emotion"] for word in re.split("[:;]", words))
                meant[words] = "+".join(sorted({canonical(word) for word in decoded if word}))
            votes += times * [meant[words]] * bool(meant[words])
        for name, given in ratings.items():
            if (rating := to_number(line.get(name), f"{entry.name}: {place}: {name}")) is not None:
                given.append(rating)
    return judged


def _key(table: Table, fields: Fields) -> Key:
    return tuple((fields.get(name) or "").lower() for name in table.key)


def _read_table(entry: Entry, table: Table, root: Path) -> dict[Key, Fields]:
    """The fields of each line, by the key of the clips."""
    lines: dict[Key, tuple[str, Fields]] = {}
    for place, record in _records(entry, table, root):
        fields = _decode(entry, record)
        if empty := [name for name in (*table.key, "emotion") if not fields.get(name, "not in this table")]:
            raise CorpusError(f"{entry.name}: {place}: no {listed(empty)}")
        key = _key(table, fields)
        other, before = lines.setdefault(key, (place, fields))
        if before != fields:
            raise CorpusError(f"{entry.name}: {place}: {'/'.join(key)} differs from {other}; remove one of them")
    return {key: fields for key, (_, fields) in lines.items()}


def _records(entry: Entry, table: Table, root: Path) -> Iterator[tuple[str, Fields]]:
    """The place and the fields of each line, undecoded."""
    found = _find(table, root)
    if not found:
        file = re.sub(r"\(\?(?:P<\w+>|:)|[\\()?]", "", table.file)  # without the signs of the expression
        if not table.optional:
            raise _nothing(entry, root, file, inside(root))
        unknown = "votes and ratings are" if table.raters else listed(sorted(set(table.columns) - set(table.key)))
        level = logging.INFO if table.raters else logging.WARNING  # few runs need votes
        logger.log(level, "%s: no %s below or beside %s: %s unknown", entry.name, file, root, unknown)
    empty = True
    for path, of_file in found:
        for line, of_line in _lines(table, path, entry.name):
            empty = False
            yield f"{path}, line {line}", {**of_file, **of_line}
    if found and empty and not table.raters:
        raise CorpusError(f"{entry.name}: no label in {found[0][0]}")


def _find(table: Table, root: Path) -> list[tuple[Path, Fields]]:
    """The table's files, and the fields in their paths: below the folder, else in the folder above it."""
    above = root.resolve().parent
    below = ((root / path, path) for path in (walk(root) if root.is_dir() else ()))
    beside = ((path, path.relative_to(above)) for path in chain.from_iterable(map(above.glob, ("*", "*/*"))))
    for start, paths in (("(?:.*/)?", below), ("", beside)):
        pattern = re.compile(f"{start}(?:{table.file})")
        matches = ((path, pattern.fullmatch(relative.as_posix())) for path, relative in paths)
        if found := [(path, match.groupdict()) for path, match in matches if match and path.is_file()]:
            return sorted(found, key=lambda each: each[0])
    return []


def _lines(table: Table, path: Path, corpus: str) -> Iterator[tuple[int, Fields]]:
    # Some tables have comments in several encodings; labels are ASCII.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    malformed = []
    for number, line in _text_lines(table, text) if table.line else _csv_lines(table, text, path, corpus):
        if isinstance(line, dict):
            yield number, line
        elif table.raters:  # a clip has many of them, and its label does not depend on them
            malformed.append(f"line {number}: {line}")
        else:
            raise CorpusError(f"{corpus}: {path}, line {number}: {line}")
    if malformed:
        logger.warning("%s: %s: %d lines of raters are ignored. %s", corpus, path, len(malformed), malformed[0])


def _text_lines(table: Table, text: str) -> Iterator[tuple[int, Fields | str]]:
    """The fields of each line of a text file, or what is wrong with it."""
    heading: Fields = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if table.under and (match := re.match(table.under, line, re.IGNORECASE)):
            heading = match.groupdict()
        elif line.strip() and re.match(table.begins, line, re.IGNORECASE):
            match = re.fullmatch("".join(table.line), line.strip(), re.IGNORECASE)
            yield number, {**heading, **match.groupdict()} if match else f"{line!r} is not a label as in the release"


def _csv_lines(table: Table, text: str, path: Path, corpus: str) -> Iterator[tuple[int, Fields | str]]:
    """The fields of each line of a .csv or .tsv file, or what is wrong with it."""
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")
    header = reader.fieldnames or ["nothing"]
    columns = {**table.columns, **{column: column for column in table.votes}}
    if missing := [column for column in dict.fromkeys(columns.values()) if column not in header]:
        if table.raters and table.optional:  # releases differ in what they say of raters
            logger.info("%s: %s has no column %s: votes and ratings are unknown", corpus, path, ", ".join(missing))
            return
        raise CorpusError(f"{corpus}: {path} has no column {', '.join(missing)}; found {', '.join(header)}")
    for record in reader:
        if None in record or None in record.values():
            yield reader.line_num, f"the fields do not fit the columns {', '.join(header)}"
        elif re.match(table.begins, record[header[0]]):
            yield reader.line_num, {name: record[column] for name, column in columns.items()}


def inside(root: Path) -> str:
    """The content of a folder, for an error: some of the names, or `nothing`."""
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    return listed(names, most=5) or "nothing"


def _nothing(entry: Entry, root: Path, what: str, found: str) -> CorpusError:
    looked_for = f"names such as {entry.example}" if entry.example else f"names that match {entry.pattern}"
    return CorpusError(f"{entry.name}: no {what} below {str(root)!r}. Looked for {looked_for}; found {found}.")
