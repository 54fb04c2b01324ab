"""
Corpora as data: a YAML file has the names of a corpus' audio files, its tables, and the facts about it.

`corpora=["mine.yaml=/data/MINE"]` reads the files below `/data/MINE` as `mine.yaml` describes them; CONTRIBUTING.md has an
example. The files in `entries/`, one for each corpus that the package knows, have the same form. [`Entry`], [`Table`] and
[`About`] describe all fields.
"""

import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

import yaml

from hf_ser.corpora.rows import CorpusError
from hf_ser.emotions import DIMENSIONS
from hf_ser.wording import listed

try:
    from yaml import CSafeLoader as Loader  # ten times as fast
except ImportError:
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

FOLDER = Path(__file__).parent / "entries"

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class About:
    """
    The facts about a corpus, from the publication that its citation names.

    Args:
        name (`str`): Its full name.
        licence (`str`): Its licence, in words.
        language (`str`, *optional*): ISO 639-1 code of the language that is spoken.
        speech (`str`): What is spoken, and how.
        acted (`bool`): Whether the speakers act, at least for the most part.
        labels (`str`):
            The source of the labels: `asked for` of the speakers; `perceived` by most listeners; `computed` for
            synthetic clips.
        text (`str`):
            `fixed`: the sentences are given, and the same for every emotion; `read`: they are given, and differ between
            emotions; `free`: at least some words are the speakers' own; `none`.
        speakers (`str`): Number and kind of speakers, as far as published.
        layout (`str`): The source of the names of files and tables in this entry.
        seen (`bool`): Whether the entry was tried on the corpus' own files, or on the full list of their names.
        licence_id (`str`, *optional*): The licence's identifier in the Hub's metadata.
        speaker_count (`int`, *optional*): Number of speakers.
        clips (`int`, *optional*): Number of clips.
        emotions (`list[str]`): The emotions of its labels.
        homepage (`str`, *optional*): The page where it can be obtained.
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
    Tables or text files that come with a corpus. Each line adds fields to its clips.

    Args:
        file (`str`): Regular expression for the end of a file's path. Its named groups are fields of every line.
        key (`list[str]`): The fields that a line and its clips have in common, in any case.
        columns (`dict[str, str]`): For a .csv or .tsv file: each field, and the column that holds it.
        line (`str`): For a text file: regular expression for a line; its named groups are fields.
        begins (`str`): Regular expression for the beginning of lines with a label, in a .csv file for their first column. Other
            lines are ignored, and so are empty ones.
        under (`str`): For a text file: regular expression for a heading; its named groups are fields of the lines below it.
        raters (`bool`, *optional*, defaults to `False`):
            Whether each line has the judgement of one rater: the field `emotion` is a vote (several emotions, separated by `:` or
            `;`, share it), and dimensions are ratings. A later table replaces the judgements of an earlier one.
        votes (`list[str]`): Columns with votes, in place of `emotion`, in lines of raters. A word is a vote for that emotion, and
            a number is the number of votes for the emotion that is the name of the column.
        lists_clips (`bool`, *optional*, defaults to `False`):
            Whether the table has every clip. A line without audio is then a clip that cannot be read, and audio without a line
            is not a clip. Otherwise lines without audio are ignored, and audio without a line lacks the fields.
        optional (`bool`, *optional*, defaults to `False`): Whether the corpus can be read without the table.
    """

    file: str
    key: list[str]
    columns: dict[str, str] = field(default_factory=dict)
    line: str | list[str] = ""
    begins: str = ""
    under: str = ""
    raters: bool = False
    votes: list[str] = field(default_factory=list)
    lists_clips: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Entry:
    """
    How a corpus is read. A field is a named group of `pattern`, or comes from a table. `emotion`, `speaker`, `gender`,
    `session` and `split` become the columns of the data set; `clip` is the name of an audio file, without its suffix.

    Args:
        name (`str`): The corpus' name: that of the YAML file.
        pattern (`str`):
            Regular expression, in any case, for the end of the audio files' paths without suffix. Audio files that do not
            match are ignored. Files with the same text in different folders or formats are copies of one performance. If a
            performance has several values of the field `source`, the file with the highest is read.
        example (`str`, *optional*): A file name that matches, for error messages.
        tables (`list[Table]`): Tables with further fields.
        codes (`dict[str, dict[str, str]]`):
            For a field, the meaning of its codes, in any case. The code `*` stands for all others, and null for no value. A code
            without a meaning is kept. Synonyms of emotions, such as joy, need no code.
        dimensions (`dict[str, list[float]]`): The fields that are dimensions, each with the lowest and highest value of the
            corpus' scale: `{arousal: [1, 5]}`. A clip without a value has the mean of its raters'.
        compose (`dict[str, str]`): Fields made of others, such as `speaker: "{session}{letter}"`.
        columns (`list[str]`): Fields that become further columns.
        female, male (`str`): Regular expressions for the speakers of a gender, if no field has it.
        without_speaker (`str`): The word that replaces the emotion of clips without a speaker.
        left_out (`str`): The reason why the corpus cannot be read.
        facts (`About`, *optional*): For the model card.
    """

    name: str
    pattern: str = ""
    example: str = ""
    tables: list[Table] = field(default_factory=list)
    codes: dict[str, dict[str, str | None]] = field(default_factory=dict)
    dimensions: dict[str, list[float]] = field(default_factory=dict)
    compose: dict[str, str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    female: str | None = None
    male: str | None = None
    without_speaker: str | None = None
    left_out: str | None = None
    facts: About | None = None


def load_entry(path: Path) -> Entry:
    """
    Reads an entry from a YAML file. `extends: NAME` starts from the package's entry of that name and replaces fields of it.

    Raises:
        CorpusError: if the file is missing or malformed, a regular expression is wrong, or no field is called `emotion`.
    """
    where = f"corpora={path.name!r}"
    entry = _build(Entry, {"name": path.stem, **_values(path)}, where)
    entry = replace(
        entry,
        tables=[_build(Table, table, f"{where}, tables") for table in entry.tables],
        codes={name: _codes(codes, f"{where}, codes of {name}") for name, codes in entry.codes.items()},
        facts=entry.facts and _build(About, entry.facts, f"{where}, facts"),
    )
    try:
        known = {*entry.compose}.union(*map(_groups, (entry.pattern, entry.female or "", entry.male or "")))
        for table in entry.tables:
            known |= {*table.columns}.union(*map(_groups, (table.file, table.line, table.begins, table.under)))
    except re.error as error:
        raise CorpusError(f"{where}: {error.pattern!r} is not a regular expression: {error}") from error
    needed = [
        "emotion",
        *entry.codes,
        *entry.columns,
        *entry.dimensions,
        *(name for table in entry.tables for name in table.key),
    ]
    if not entry.left_out and (missing := [name for name in needed if name not in known]):
        raise CorpusError(
            f"{where}: no field is called {missing[0]}: found {listed(sorted(known)) or 'none'}. Name it in pattern as "
            f"(?P<{missing[0]}>...), or in a table."
        )
    for name, scale in entry.dimensions.items():
        numbers = scale if isinstance(scale, list) and all(isinstance(value, int | float) for value in scale) else []
        if name not in DIMENSIONS or len(numbers) != 2 or not numbers[0] < numbers[1]:
            raise CorpusError(
                f"{where}: dimensions: found {name}: {scale}, expected {listed(DIMENSIONS, 'or')} with the lowest and highest "
                "value, such as [1, 5]"
            )
    return entry


def _values(path: Path) -> dict[str, Any]:
    where = f"corpora={path.name!r}"
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CorpusError(f"{where}: {path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise CorpusError(f"{where}: found {values!r}, expected fields such as 'pattern: ...'")
    if base := values.pop("extends", None):
        below = _values(FOLDER / f"{base}.yaml")
        if left_out := below.get("left_out"):
            raise CorpusError(f"{where}: extends: {left_out}")
        values = {**below, **values, "facts": {**below["facts"], **(values.get("facts") or {})}}
    return values


def _build(kind: type[Kind], values: Any, where: str) -> Kind:
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or (unknown := sorted(set(map(str, values)) - set(known))):
        found = listed(unknown) if isinstance(values, dict) else repr(values)
        raise CorpusError(f"{where}: found {found}, expected {listed(known, 'or')}")
    required = {name for name, each in known.items() if each.default is MISSING and each.default_factory is MISSING}
    if missing := sorted(required - set(values)):
        raise CorpusError(f"{where}: {listed(missing)} missing; found {listed(sorted(values))}")
    for name, value in values.items():
        expected = get_origin(known[name].type)
        if expected in (list, dict) and not isinstance(value, expected):
            raise CorpusError(f"{where}: {name}: found {value!r}, expected a {expected.__name__}")
    return kind(**values)


def _codes(codes: Any, where: str) -> dict[str, str | None]:
    if not isinstance(codes, dict):
        raise CorpusError(f"{where}: found {codes!r}, expected a dict")
    odd = [code for code in codes if not isinstance(code, str)]
    if odd := odd + [word for word in codes.values() if not isinstance(word, str | None)]:
        raise CorpusError(
            f"{where}: found {odd[0]!r}; put quotes around codes and meanings that are numbers, yes or no"
        )
    return {code.lower(): word for code, word in codes.items()}


def _groups(expression: Sequence[str]) -> Sequence[str]:
    return tuple(re.compile("".join(expression)).groupindex)
