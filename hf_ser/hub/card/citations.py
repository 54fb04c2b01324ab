"""Whom a model card cites."""

from hf_ser.hub.card import bibtex
from hf_ser.hub.card.corpora import abouts
from hf_ser.hub.card.methods import HUBERT_SER, methods
from hf_ser.hub.card.words import Results


def citations(results: Results) -> list[str]:
    """BibTeX of the corpora, the encoder and the methods that the run used."""
    method = results["method"]
    found = [facts.citation if facts else None for facts in abouts(results).values()]
    found.append(bibtex.ENCODERS.get(str(results.get("model_type"))))
    of_hubert_ser = all(name in HUBERT_SER for name in methods(results))
    found.append(bibtex.HUBERT_SER if of_hubert_ser else bibtex.PEFT_SER)
    split = results["split"]
    if "kfold" in (split["name"], split.get("made_as")) and of_hubert_ser:
        found.append(bibtex.PEFT_SER)
    if "lora" in method:
        found.append(bibtex.LORA)
    return list(dict.fromkeys(citation for citation in found if citation))
