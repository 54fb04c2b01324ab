"""Corpora: their files, or their tables, become rows with the same columns. To add one, copy the shape of a neighbour."""

from collections.abc import Callable, Sequence
from pathlib import Path

from datasets import Dataset

from hf_ser.corpora import (
    crema_d,
    hub_dataset,
    iemocap,
    manifest,
    msp_improv,
    msp_podcast,
    ravdess,
    savee,
    synthetic,
    tess,
)
from hf_ser.corpora.about import About
from hf_ser.corpora.rows import CorpusError, Row, SetAside, corpus_of, to_dataset

__all__ = [
    "ABOUT",
    "CORPORA",
    "LABEL_SOURCES",
    "NAMES",
    "About",
    "CorpusError",
    "Row",
    "SetAside",
    "corpus_of",
    "labelled_by",
    "read",
    "read_corpora",
    "to_dataset",
]

_MODULES = (crema_d, iemocap, msp_improv, msp_podcast, ravdess, savee, synthetic, tess)

#: The corpora that are read from a folder.
CORPORA: dict[str, Callable[[Path], list[Row]]] = {
    **{module.NAME: module.read for module in _MODULES},
    crema_d.VOTES_NAME: crema_d.read_votes,
}
#: The facts about each of them, for the model card.
ABOUT: dict[str, About] = {
    **{module.NAME: module.ABOUT for module in _MODULES},
    crema_d.VOTES_NAME: crema_d.VOTES_ABOUT,
}
NAMES = (*sorted(CORPORA), manifest.NAME, hub_dataset.NAME)
#: Where CREMA-D's labels come from, and the corpus that has them.
LABEL_SOURCES = {"intended": crema_d.NAME, "multimodal_vote": crema_d.VOTES_NAME}


def read(specification: str) -> list[Dataset]:
    """
    Reads what `NAME=PATH` names: one `Dataset` of undecoded rows for each corpus in it (a manifest may hold several).

    Args:
        specification (`str`):
            `ravdess=FOLDER` and so on for the names in `CORPORA`, `manifest=FILE`, `dataset=FOLDER` or
            `dataset=user/name`, `synthetic` or `synthetic=FOLDER`.

    Raises:
        CorpusError: if the name is none of these, or the corpus cannot be read.
    """
    name, _, path = specification.partition("=")
    if name not in NAMES:
        raise CorpusError(
            f"--corpora: {specification!r} names no corpus; write NAME=PATH with one of {', '.join(NAMES)}"
        )
    if name == synthetic.NAME:
        path = path or str(synthetic.default_folder())
    if not path:
        raise CorpusError(f"--corpora: {specification!r} has no path; write {name}=PATH")
    if name == hub_dataset.NAME:
        return [hub_dataset.read(path)]
    if name == manifest.NAME:
        return [to_dataset(rows, corpus) for corpus, rows in sorted(manifest.read(Path(path).expanduser()).items())]
    return [to_dataset(CORPORA[name](Path(path).expanduser()), name)]


def labelled_by(specifications: Sequence[str], label_source: str) -> list[str]:
    """
    The same corpora with CREMA-D's labels from `label_source`, one of `LABEL_SOURCES`: `crema_d=FOLDER` becomes
    `crema_d_votes=FOLDER` for `multimodal_vote`.

    Raises:
        CorpusError: if there is no such source, or no CREMA-D whose labels it could be.
    """
    if label_source not in LABEL_SOURCES:
        raise CorpusError(f"--label_source: {label_source!r} is none of {', '.join(LABEL_SOURCES)}")
    named = LABEL_SOURCES[label_source]
    if named == crema_d.NAME:
        return list(specifications)
    changed = [
        named + specification.removeprefix(crema_d.NAME)
        if specification.partition("=")[0] == crema_d.NAME
        else specification
        for specification in specifications
    ]
    if not any(specification.partition("=")[0] == named for specification in changed):
        raise CorpusError(f"--label_source {label_source}: only {crema_d.NAME} has such labels; it is not in --corpora")
    return changed


def read_corpora(specifications: Sequence[str]) -> list[Dataset]:
    """
    Reads several corpora, see [`read`].

    Raises:
        CorpusError: if there is none, one cannot be read, or two have the same name.
    """
    if not specifications:
        raise CorpusError(f"--corpora: name at least one as NAME=PATH, with one of {', '.join(NAMES)}")
    datasets = [dataset for specification in specifications for dataset in read(specification)]
    names = [dataset[0]["corpus"] for dataset in datasets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CorpusError(
            f"--corpora: {twice[0]} is there twice; combine its folders, or give one a manifest of its own"
        )
    if {crema_d.NAME, crema_d.VOTES_NAME} <= set(names):
        raise CorpusError(f"--corpora: {crema_d.NAME} and {crema_d.VOTES_NAME} are the same clips; name one of them")
    return datasets
