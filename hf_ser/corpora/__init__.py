"""Corpora as data sets with the same columns. To add a corpus, see [`hf_ser.corpora.entries`]."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from hf_ser.corpora import emobox, hub_dataset, manifest, synthetic
from hf_ser.corpora.columns import arrow_column
from hf_ser.corpora.entries import FOLDER, About, Entry, load_entry
from hf_ser.corpora.reading import read_entry
from hf_ser.corpora.rows import CorpusError, Excluded, Row, corpus_of, to_dataset

__all__ = [
    "ABOUT",
    "CORPORA",
    "LABEL_SOURCES",
    "LEFT_OUT",
    "NAMES",
    "About",
    "CorpusError",
    "Excluded",
    "Row",
    "corpus_of",
    "entry_of",
    "labelled_by",
    "read",
    "read_corpora",
    "source_of",
    "to_dataset",
]

_ENTRIES = {path.stem: load_entry(path) for path in sorted(FOLDER.glob("*.yaml"))}
#: The corpora that are read from a folder.
CORPORA = {name: entry for name, entry in _ENTRIES.items() if not entry.left_out}
#: The facts about them, for the model card.
ABOUT: dict[str, About] = {name: entry.facts for name, entry in CORPORA.items() if entry.facts}
#: Corpora that cannot be read, and why.
LEFT_OUT = {name: entry.left_out for name, entry in _ENTRIES.items() if entry.left_out}
NAMES = (*CORPORA, manifest.NAME, hub_dataset.NAME, emobox.NAME)
#: The sources of CREMA-D's labels, and the corpus that has them.
LABEL_SOURCES = {"intended": "crema_d", "multimodal_vote": "crema_d_votes"}


def read(specification: str) -> list[Dataset]:
    """
    Reads the corpus that `NAME=PATH` names: one `Dataset` of undecoded rows, or one for each corpus of a manifest or a data set.

    Args:
        specification (`str`):
            `ravdess=FOLDER` and so on for the names in `CORPORA`, `FILE.yaml=FOLDER` for a corpus that a file describes (see
            [`hf_ser.corpora.entries`]), `manifest=FILE`, `dataset=FOLDER` or `dataset=user/name`, `emobox=EmoBox/data/CORPUS`
            (see [`hf_ser.corpora.emobox`]), `synthetic` or `synthetic=FOLDER`.

    Raises:
        CorpusError: if the name is none of these, or the corpus cannot be read.
    """
    name, _, path = specification.partition("=")
    if name in LEFT_OUT:
        raise CorpusError(f"corpora={specification!r}: {LEFT_OUT[name]}")
    entry = entry_of(specification)
    if entry is None and name not in NAMES:
        raise CorpusError(
            f"corpora={specification!r} names no corpus; write NAME=PATH with one of {', '.join(NAMES)}, or FILE.yaml=PATH"
        )
    if name == synthetic.NAME:
        path = str(synthetic.ensure(Path(path).expanduser() if path else synthetic.default_folder()))
    if not path:
        raise CorpusError(f"corpora={specification!r} has no path; write {name}=PATH")
    if name == hub_dataset.NAME:
        return hub_dataset.read(path)
    root = Path(path).expanduser()
    if entry:
        return [to_dataset(read_entry(entry, root), entry.name)]
    if name == emobox.NAME:
        corpus = known_as(root.name)
        return [to_dataset(emobox.read(root, CORPORA.get(corpus)), corpus)]
    return [to_dataset(rows, corpus) for corpus, rows in sorted(manifest.read(root).items())]


def entry_of(specification: str) -> Entry | None:
    """The entry that describes the corpus of `NAME=PATH`, see [`load_entry`]; none of a manifest or a data set."""
    name = specification.partition("=")[0]
    return load_entry(Path(name).expanduser()) if name.lower().endswith((".yaml", ".yml")) else CORPORA.get(name)


def known_as(name: str) -> str:
    """The corpus in `CORPORA` that `name` spells otherwise (`CREMA-D`, `cremad`), else the name itself."""
    spelt = {corpus.replace("_", ""): corpus for corpus in CORPORA}
    return spelt.get(re.sub(r"[^a-z0-9]", "", name.lower()), name)


def source_of(specification: str) -> dict[str, str]:
    """How the corpus of `NAME=PATH` is read (`read_as`), and its name on the Hub (`hub_dataset`) if it comes from there."""
    kind, _, path = specification.partition("=")
    if kind in CORPORA:
        return {"read_as": kind}
    if kind == hub_dataset.NAME:
        return {"read_as": kind, **({} if hub_dataset.is_on_disk(path) else {"hub_dataset": path.partition(":")[0]})}
    if kind == emobox.NAME and (corpus := known_as(Path(path).name)) in CORPORA:
        return {"read_as": corpus}
    return {"read_as": manifest.NAME}


def labelled_by(specifications: Sequence[str], label_source: str) -> list[str]:
    """
    The same corpora with CREMA-D's labels from `label_source`, one of `LABEL_SOURCES`: `crema_d=FOLDER` becomes
    `crema_d_votes=FOLDER` for `multimodal_vote`.

    Raises:
        CorpusError: if CREMA-D is not among the corpora.
    """
    intended, labelled = LABEL_SOURCES["intended"], LABEL_SOURCES[label_source]
    pairs = [specification.partition("=") for specification in specifications]
    changed = [(labelled if name == intended else name, equals, path) for name, equals, path in pairs]
    if labelled not in {intended, *(name for name, *_ in changed)}:
        raise CorpusError(f"label_source={label_source!r}: only {intended} has such labels; it is not in corpora")
    return ["".join(parts) for parts in changed]


def read_corpora(specifications: Sequence[str]) -> list[Dataset]:
    """
    Reads several corpora, see [`read`]. `.info.dataset_name` of each is its `NAME=PATH`.

    Raises:
        CorpusError: if there is none, one cannot be read, two have the same name, or a file is in two.
    """
    if not specifications:
        raise CorpusError(f"corpora=[]: name at least one as NAME=PATH, with one of {', '.join(NAMES)}")
    datasets = []
    for specification in specifications:
        for dataset in read(specification):
            dataset.info.dataset_name = specification
            datasets.append(dataset)
    names = [dataset[0]["corpus"] for dataset in datasets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CorpusError(f"corpora: {twice[0]} is there twice; combine its folders, or give one a manifest of its own")
    if set(LABEL_SOURCES.values()) <= set(names):
        raise CorpusError(f"corpora: {' and '.join(LABEL_SOURCES.values())} are the same clips; name one of them")
    entries = [
        rows for rows in datasets if rows.info.dataset_name.partition("=")[0] not in (manifest.NAME, hub_dataset.NAME)
    ]
    read_as: dict[str, str] = {}
    for rows in entries if len(entries) > 1 else ():
        name = rows[0]["corpus"]
        for path in arrow_column(rows, "audio").field("path").to_pylist():
            if (other := read_as.setdefault(os.path.abspath(path), name)) != name:
                raise CorpusError(
                    f"corpora: {path!r} is a clip of both {other} and {name}; give each the folder of its own files"
                )
    return datasets
