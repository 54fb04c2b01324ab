"""Corpora: their files, or their tables, become rows with the same columns. To add one, copy the shape of a neighbour."""

from collections.abc import Callable, Sequence
from pathlib import Path

from datasets import Dataset

from hf_ser.corpora import crema_d, hub_dataset, manifest, ravdess, savee, synthetic, tess
from hf_ser.corpora.about import About
from hf_ser.corpora.rows import CorpusError, Row, SetAside, to_dataset

__all__ = ["ABOUT", "CORPORA", "NAMES", "About", "CorpusError", "Row", "SetAside", "read", "read_corpora", "to_dataset"]

#: The corpora that are read from a folder.
CORPORA: dict[str, Callable[[Path], list[Row]]] = {
    module.NAME: module.read for module in (crema_d, ravdess, savee, synthetic, tess)
}
#: The facts about each of them, for the model card.
ABOUT: dict[str, About] = {module.NAME: module.ABOUT for module in (crema_d, ravdess, savee, synthetic, tess)}
NAMES = (*sorted(CORPORA), manifest.NAME, hub_dataset.NAME)


def read(specification: str) -> list[Dataset]:
    """
    Reads what `NAME=PATH` names: one `Dataset` of undecoded rows for each corpus in it (a manifest may hold several).

    Args:
        specification (`str`):
            `ravdess=FOLDER`, `crema_d=FOLDER`, `savee=FOLDER`, `tess=FOLDER`, `manifest=FILE`, `dataset=FOLDER` or
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
    return datasets
