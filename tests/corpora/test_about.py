"""What the model cards say of the corpora."""

import re

import pytest

from hf_ser.corpora import ABOUT, CORPORA, About


def test_every_corpus_that_is_read_from_a_folder_has_its_facts() -> None:
    assert ABOUT.keys() == CORPORA.keys()


@pytest.mark.parametrize("about", ABOUT.values(), ids=ABOUT.keys())
def test_facts_fit_into_a_card(about: About) -> None:
    for text in (about.name, about.licence, about.speech, about.speakers):
        assert text == text.strip()
        assert not set(text) & set("|\n"), "would break a table"
        assert not text.endswith(".")
    assert about.licence_id is None or re.fullmatch(r"[a-z0-9.-]+", about.licence_id)
    assert about.language is None or re.fullmatch(r"[a-z]{2}", about.language)
    assert about.homepage is None or about.homepage.startswith(("https://", "http://"))


@pytest.mark.parametrize("about", [about for about in ABOUT.values() if about.citation], ids=lambda about: about.name)
def test_citations_are_bibtex(about: About) -> None:
    citation = about.citation or ""
    assert re.match(r"@(article|inproceedings|misc)\{[a-z0-9]+,\n", citation)
    assert citation.endswith("\n}")
    assert citation.count("{") == citation.count("}")
    for field in ("title", "author", "year"):
        assert re.search(rf"^  {field} = \{{", citation, re.MULTILINE), field


def test_licences_that_forbid_something_say_so() -> None:
    for about in ABOUT.values():
        identifier = about.licence_id or ""
        assert ("no commercial use" in about.licence) == ("-nc-" in identifier)
        assert ("no derivatives" in about.licence) == ("-nd-" in identifier)
        assert ("share alike" in about.licence) == ("-sa-" in identifier or identifier == "odbl")


def test_whose_the_labels_are_and_who_acts() -> None:
    assert {name for name, about in ABOUT.items() if not about.acted} == {"msp_podcast", "synthetic"}
    perceived = {"crema_d_votes", "iemocap", "msp_improv", "msp_podcast"}
    assert {name for name, about in ABOUT.items() if about.labels == "perceived"} == perceived
    assert {name for name, about in ABOUT.items() if about.labels == "computed"} == {"synthetic"}
    for about in ABOUT.values():
        assert ("perceived" in about.speech) == (about.labels == "perceived")
        assert ("acted" in about.speech.replace("not acted", "")) == about.acted
        assert (about.text == "none") == (about.language is None)


def test_what_is_said() -> None:
    texts = {name: about.text for name, about in ABOUT.items()}
    assert {name for name, text in texts.items() if text == "fixed"} == {"crema_d", "crema_d_votes", "ravdess", "tess"}
    assert {name for name, text in texts.items() if text == "free"} == {"iemocap", "msp_improv", "msp_podcast"}
    assert texts["savee"] == "read"
