"""What is known of a corpus beside its files: what a model card must say of it."""

from dataclasses import dataclass
from typing import Literal


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
        acted (`bool`): Whether the speakers act, at least for the most part.
        labels (`str`):
            Whose the labels are: `asked for` of the speakers; `perceived` by most of those who listened; `computed`, where
            a computer made the clips.
        text (`str`):
            `fixed`, where every emotion is said in the same given sentences; `read`, where the sentences are given, and not
            the same in every emotion; `free`, where the words are in part the speakers' own; `none`.
        speakers (`str`): How many people speak, and who they are, as far as that is published.
        homepage (`str`, *optional*): Where it is to be had.
        citation (`str`, *optional*): BibTeX.
    """

    name: str
    licence: str
    licence_id: str | None
    language: str | None
    speech: str
    acted: bool
    labels: Literal["asked for", "perceived", "computed"]
    text: Literal["fixed", "read", "free", "none"]
    speakers: str
    homepage: str | None
    citation: str | None
