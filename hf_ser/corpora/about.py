"""What is known of a corpus beside its files: what a model card must say of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """
    The facts about a corpus, from the publication that its citation names.

    Args:
        name (`str`): Its full name.
        licence (`str`): Its licence, in words.
        licence_id (`str`, *optional*): The same as the Hub's metadata spell it, where they know it.
        language (`str`, *optional*): ISO 639-1 code of the language that is spoken.
        speech (`str`): What is said, and how.
        speakers (`str`): How many people speak, and who they are, as far as that is published.
        homepage (`str`, *optional*): Where it is to be had.
        citation (`str`, *optional*): BibTeX.
    """

    name: str
    licence: str
    licence_id: str | None
    language: str | None
    speech: str
    speakers: str
    homepage: str | None
    citation: str | None
