r"""
Corpora as data: a YAML file says what a corpus' audio files are called, which tables come with it, and the facts about it.

A corpus is added by such a file, here `mine.yaml`, which names the corpus `mine`:

    pattern: (?P<speaker>(?P<gender>[fm])\d\d)_(?P<emotion>[a-z]+)_(?P<sentence>\d+)
    example: f01_jo_3.wav
    codes:
      emotion: {jo: happy, sa: sad}
    columns: [sentence]

`corpora=["mine.yaml=/data/MINE"]` reads the files below `/data/MINE`. The files in `entries/`, one for each corpus that the package
knows, have the same form. [`Entry`], [`Table`] and [`About`] describe all fields.
"""

import csv
import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

import yaml

from hf_ser.corpora.manifest import gender, split
from hf_ser.corpora.rows import AUDIO_SUFFIXES, FEMALE, MALE, CorpusError, Row, audio_files, stem, walk
from hf_ser.emotions import canonical
from hf_ser.wording import listed

try:
    from yaml import CSafeLoader as Loader  # ten times as fast
except ImportError:
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "entries"
#: The code that stands for all codes that are not in the table.
OTHERS = "*"

Fields = dict[str, str | None]
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class About:
    """
    The facts about a corpus, from the publication that its citation names.

    Args:
        name (`str`): Its full name.
        licence (`str`): Its licence, in words.
        language (`str`, *optional*): ISO 639-1 code of the language that is spoken.
        speech (`str`): What is said, and how.
        acted (`bool`): Whether the speakers act, at least for the most part.
        labels (`str`):
            The source of the labels: `asked for` of the speakers; `perceived` by most listeners; `computed`, where a computer
            made the clips.
        text (`str`):
            `fixed`, where every emotion has the same given sentences; `read`, where the sentences are given and differ between
            emotions; `free`, where at least some words are the speakers' own; `none`.
        speakers (`str`): Number and kind of speakers, as far as published.
        layout (`str`): The source of what this entry says about names of files and tables.
        seen (`bool`): Whether the entry was tried on the corpus' own files, or on the full list of their names.
        licence_id (`str`, *optional*): The licence's identifier in the Hub's metadata.
        speaker_count (`int`, *optional*): Number of speakers.
        clips (`int`, *optional*): Number of clips.
        emotions (`list[str]`): The emotions of its labels.
        homepage (`str`, *optional*): Where it can be obtained.
        citation (`str`, *optional*): BibTeX.
    """

    name: str
    licence: str
    language: str | None
    speech: str
    acted: bool
    labels: Literal["asked for", "perceived", "computed"]
    text: Literal["fixed", "read", "free", "none"]
    speakers: str
    layout: str
    seen: bool
    licence_id: str | None = None
    speaker_count: int | None = None
    clips: int | None = None
    emotions: list[str] = field(default_factory=list)
    homepage: str | None = None
    citation: str | None = None


@dataclass(frozen=True)
class Table:
    """
    Tables or text files that come with a corpus. Each line adds fields to the clips that it is about.

    Args:
        file (`str`): Regular expression for the end of a file's path. Its named groups are fields of every line.
        key (`list[str]`): The fields that a line and its clips have in common, in any case.
        columns (`dict[str, str]`): For a .csv or .tsv file: each field, and the column that holds it.
        line (`str`): For a text file: regular expression for a line; its named groups are fields.
        begins (`str`): Regular expression for how lines with a label begin; other lines are ignored.
        lists_clips (`bool`, *optional*, defaults to `False`):
            Whether the table has every clip. A line without audio is then a clip that cannot be read, and audio without a line
            is not a clip. Otherwise lines without audio are ignored, and audio without a line lacks the fields.
        optional (`bool`, *optional*, defaults to `False`): Whether the corpus is read without the table, too.
    """

    file: str
    key: list[str]
    columns: dict[str, str] = field(default_factory=dict)
    line: str | list[str] = ""
    begins: str = ""
    lists_clips: bool = False
    optional: bool = False

    @property
    def fields(self) -> set[str]:
        """The names of the fields of its lines."""
        return {*self.columns, *re.compile("".join(self.line)).groupindex, *re.compile(self.file).groupindex}


@dataclass(frozen=True)
class Entry:
    """
    How a corpus is read. A field is a named group of `pattern`, or comes from a table. `emotion`, `speaker`, `gender`,
    `session` and `split` become the columns of the data set; `clip` is the name of an audio file, without its suffix.

    Args:
        name (`str`): The corpus' name: that of the YAML file.
        pattern (`str`):
            Regular expression, in any case, for the end of the audio files' paths without suffix. Audio files that do not
            match are ignored. Those with the same text in different folders or formats are copies of one performance. Of
            performances that exist with several values of the field `source`, those with the highest are read.
        example (`str`, *optional*): A file name that matches, for error messages.
        tables (`list[Table]`): Tables with further fields.
        codes (`dict[str, dict[str, str]]`):
            For a field, what its codes mean, in any case; the code `*` stands for all others, and a null for no value. A code
            without a meaning is kept. Synonyms of emotions, such as joy, need no code.
        compose (`dict[str, str]`): Fields made of others, such as `speaker: "{session}{letter}"`.
        columns (`list[str]`): Fields that become further columns.
        female, male (`str`): Regular expressions for the speakers of a gender, where no field has it.
        without_speaker (`str`): The word that replaces the emotion of clips without a speaker.
        left_out (`str`): Why the corpus cannot be read.
        facts (`About`, *optional*): For the model card.
    """

    name: str
    pattern: str = ""
    example: str = ""
    tables: list[Table] = field(default_factory=list)
    codes: dict[str, dict[str, str | None]] = field(default_factory=dict)
    compose: dict[str, str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    female: str | None = None
    male: str | None = None
    without_speaker: str | None = None
    left_out: str | None = None
    facts: About | None = None

    def decode(self, values: Fields) -> Fields:
        """Fields with the meaning of their codes, none where empty."""
        decoded: Fields = {}
        for name, value in values.items():
            code = (value or "").strip()
            if name == "clip" and os.path.splitext(code)[1].lower() in AUDIO_SUFFIXES:
                code = os.path.splitext(code)[0]
            meanings = self.codes.get(name, {})
            decoded[name] = meanings.get(code.lower(), meanings.get(OTHERS, code)) or None if code else None
        return decoded

    def row(self, path: Path, name: str, values: Fields, performance: str | None) -> Row:
        """A clip with these fields."""
        known = {field: value for field, value in values.items() if value}
        for made, template in self.compose.items():
            with suppress(KeyError):  # a field that this clip lacks
                known[made] = template.format_map({**known, made: values.get(made) or ""})
        speaker = known.get("speaker")
        by_speaker = {FEMALE: self.female, MALE: self.male}
        return Row(
            path=str(path),
            name=name,
            emotion=canonical(known.get("emotion", "")) if speaker or not self.without_speaker else self.without_speaker,
            speaker=speaker,
            gender=gender(known.get("gender"))
            or next((word for word, who in by_speaker.items() if who and speaker and re.fullmatch(who, speaker)), None),
            session=known.get("session"),
            split=split(known.get("split")),
            performance=performance,
            extras={column: known[column] for column in self.columns if column in known},
        )


def load_entry(path: Path) -> Entry:
    """
    Reads an entry from a YAML file. `extends: NAME` starts from the package's entry of that name and replaces fields of it.

    Raises:
        CorpusError: if the file is missing or malformed, a regular expression is wrong, or no field is called `emotion`.
    """
    values = {"name": path.stem, **_values(path)}
    where = f"corpora={path.name!r}"
    facts, tables = values.pop("facts", None), values.pop("tables", [])
    if not isinstance(tables, list):
        raise CorpusError(f"{where}: tables: found {tables!r}, expected a list")
    values["tables"] = [_build(Table, table, f"{where}, tables") for table in tables]
    values["facts"] = facts and _build(About, facts, f"{where}, facts")
    entry = _build(Entry, values, where)
    for name, codes in entry.codes.items():
        if not isinstance(codes, dict):
            raise CorpusError(f"{where}: codes of {name}: found {codes!r}, expected a dict")
        if odd := [code for code in codes if not isinstance(code, str)]:
            raise CorpusError(f"{where}: codes of {name}: found {odd[0]!r}; put quotes around codes that are numbers, yes or no")
    try:
        known = {*re.compile(entry.pattern).groupindex, *entry.compose}.union(*(table.fields for table in entry.tables))
        for expression in (entry.female, entry.male, *(table.begins for table in entry.tables)):
            re.compile(expression or "")
    except re.error as error:
        raise CorpusError(f"{where}: {error.pattern!r} is not a regular expression: {error}") from error
    needed = [] if entry.left_out else ["emotion", *entry.codes, *entry.columns, *(name for table in entry.tables for name in table.key)]
    if missing := [name for name in needed if name not in known]:
        raise CorpusError(
            f"{where}: no field is called {missing[0]}: found {listed(sorted(known)) or 'none'}. Name it in pattern as "
            f"(?P<{missing[0]}>...), or in a table."
        )
    lowered = {name: {code.lower(): word for code, word in codes.items()} for name, codes in entry.codes.items()}
    return Entry(**{**vars(entry), "codes": lowered})


def _values(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CorpusError(f"corpora={path.name!r}: {path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise CorpusError(f"corpora={path.name!r}: found {values!r}, expected fields such as 'pattern: ...'")
    if base := values.pop("extends", None):
        below = _values(FOLDER / f"{base}.yaml")
        values = {**below, **values, "facts": {**below["facts"], **(values.get("facts") or {})}}
    return values


def _build(kind: type[Kind], values: Any, where: str) -> Kind:
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or (unknown := sorted(set(map(str, values)) - set(known))):
        found = f"{listed(unknown)}" if isinstance(values, dict) else repr(values)
        raise CorpusError(f"{where}: found {found}, expected {listed(known, 'or')}")
    required = {name for name, each in known.items() if each.default is MISSING and each.default_factory is MISSING}
    if missing := sorted(required - set(values)):
        raise CorpusError(f"{where}: {listed(missing)} missing; found {listed(sorted(values))}")
    for name, value in values.items():
        expected = get_origin(known[name].type)
        if expected in (list, dict) and not isinstance(value, expected):
            raise CorpusError(f"{where}: {name}: found {value!r}, expected a {expected.__name__}")
    return kind(**values)


def read_entry(entry: Entry, root: Path) -> list[Row]:
    """
    The clips of a corpus below a folder.

    Args:
        entry (`Entry`): The corpus.
        root (`Path`): The folder, or a text file that lists names of audio files, one a line.

    Raises:
        CorpusError: if there is no such folder, no clip of the corpus in it, a table is missing, or one of its lines malformed.
    """
    files = audio_files(root, entry.name)
    within = Path(root.resolve().name)  # `root` may be the folder of one speaker
    pattern = re.compile(rf"(?:.*/)?(?P<text_>{entry.pattern})", re.IGNORECASE)
    clips: list[tuple[Path, str, Fields, str | None]] = []
    for path in files:
        if match := pattern.fullmatch(stem(within / path)):
            values = match.groupdict()
            text = values.pop("text_").lower().replace("/", "_")
            if source := values.get("source"):
                text = text.replace(source.lower(), "", 1)
            clips.append((root / path, stem(path), entry.decode(values), text))
    if not clips:
        found = f"{len(files)} audio files, but none with such a name (for instance {str(files[0])!r})" if files else ""
        raise CorpusError(_nothing(entry, root, "no clip of it", found or f"no audio file, but {_inside(root)}"))
    highest: dict[str | None, str] = {}
    for *_, values, text in clips:
        highest[text] = max(highest.get(text, ""), values.get("source") or "")
    clips = [clip for clip in clips if (clip[2].get("source") or "") == highest[clip[3]]]
    for table in entry.tables:
        lines = _read_table(entry, table, root)
        if table.lists_clips:
            audio = {_key(table, values): path for path, _, values, _ in reversed(clips)}
            listing = [("/".join(filter(None, map(values.get, table.key))), values) for values in lines.values()]
            clips = [
                (audio.pop(key, root / f"{name}.wav"), name, values, None)
                for key, (name, values) in zip(lines, listing, strict=True)
            ]
            if audio:
                example = min(path.stem for path in audio.values())
                logger.warning("%s: %d audio files have no label, for instance %s", entry.name, len(audio), example)
        else:
            clips = [(path, name, {**values, **lines.get(_key(table, values), {})}, text) for path, name, values, text in clips]
    rows = [entry.row(*clip) for clip in clips]
    if entry.without_speaker and (unknown := sum(row.speaker is None for row in rows)):
        logger.warning(
            "%s: %d of %d clips have an unknown speaker: their emotion is replaced by %s",
            entry.name, unknown, len(rows), entry.without_speaker,
        )  # fmt: skip
    return rows


def _key(table: Table, values: Fields) -> tuple[str, ...]:
    return tuple((values.get(name) or "").lower() for name in table.key)


def _inside(root: Path) -> str:
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    return listed(names, most=5) or "nothing"


def _nothing(entry: Entry, root: Path, what: str, found: str) -> str:
    looked_for = f"names such as {entry.example}" if entry.example else f"names that match {entry.pattern}"
    return f"{entry.name}: {what} below {str(root)!r}. Looked for {looked_for}; found {found}."


def _read_table(entry: Entry, table: Table, root: Path) -> dict[tuple[str, ...], Fields]:
    """The fields of each line, by those that are in common with clips."""
    file = re.sub(r"\(\?(?:P<\w+>|:)|[\\()?]", "", table.file)  # as people write it
    found = _find(table, root)
    if not found:
        if table.optional:
            unknown = listed(sorted(set(table.columns) - set(table.key)))
            logger.warning("%s: no %s below or beside %s: %s unknown", entry.name, file, root, unknown)
            return {}
        raise CorpusError(_nothing(entry, root, f"no {file}", _inside(root)))
    lines: dict[tuple[str, ...], Fields] = {}
    places: dict[tuple[str, ...], str] = {}
    required = {*table.key, *({"emotion"} & table.fields)}
    for path, of_file in found:
        for number, values in _lines(table, path, entry.name):
            place = f"{path}, line {number}"
            decoded = entry.decode({**of_file, **values})
            if empty := sorted(name for name in required if not decoded[name]):
                raise CorpusError(f"{entry.name}: {place}: no {listed(empty)}")
            key = _key(table, decoded)
            if lines.setdefault(key, decoded) != decoded:
                raise CorpusError(f"{entry.name}: {place}: {'/'.join(key)} differs from {places[key]}; remove one of them")
            places.setdefault(key, place)
    if not lines:
        raise CorpusError(f"{entry.name}: no label in {found[0][0]}")
    return lines


def _find(table: Table, root: Path) -> list[tuple[Path, Fields]]:
    """The table's files, and the fields in their paths: below the folder, else in the folder above it."""
    below = re.compile(rf"(?:.*/)?(?:{table.file})")
    matches = [(path, below.fullmatch(path.as_posix())) for path in sorted(walk(root))] if root.is_dir() else []
    found = [(root / path, match.groupdict()) for path, match in matches if match]
    if not found:
        above = root.resolve().parent
        beside = sorted([*above.glob("*"), *above.glob("*/*")])
        found = [
            (path, match.groupdict())
            for path in beside
            if (match := re.fullmatch(table.file, path.relative_to(above).as_posix())) and path.is_file()
        ]
    return found


def _lines(table: Table, path: Path, corpus: str) -> Iterator[tuple[int, Fields]]:
    # Some tables have comments in several encodings; labels are ASCII.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if table.line:
        for number, line in enumerate(text.splitlines(), start=1):
            if re.match(table.begins, line, re.IGNORECASE):
                match = re.fullmatch("".join(table.line), line.strip(), re.IGNORECASE)
                if match is None:
                    raise CorpusError(f"{corpus}: {path}, line {number}: {line!r} is not a label as in the release")
                yield number, match.groupdict()
        return
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")
    header = reader.fieldnames or ["nothing"]
    if missing := [column for column in dict.fromkeys(table.columns.values()) if column not in header]:
        raise CorpusError(f"{corpus}: {path} has no column {', '.join(missing)}; found {', '.join(header)}")
    for line in reader:
        if None in line or None in line.values():
            raise CorpusError(
                f"{corpus}: {path}, line {reader.line_num}: the fields do not fit the columns {', '.join(header)}"
            )
        yield reader.line_num, {name: line[column] for name, column in table.columns.items()}
