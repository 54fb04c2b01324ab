"""What must not leave the machine: where its folders are, and the keys to accounts."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: A part of a path.
PART = r"""[^\s/\\'"`,;:=()\[\]{}<>|]"""
#: An absolute path of two parts or more, or one below the home folder, where a word begins. One of Windows begins with a drive, a
#: server or the home folder; its backslashes are doubled in JSON. A backslash alone begins a part of a regular expression.
PATH = re.compile(
    rf"(?<![\w.~/)\]-])(?:(?:~|[A-Za-z]:)?/(?:{PART}+[/\\])+{PART}*"
    rf"|(?:~|[A-Za-z]:)\\+(?:{PART}+[/\\]+)+{PART}*"
    rf"|\\{{2,4}}\w[\w.-]+\\+\w(?:{PART}*[/\\]+)*{PART}*)"
)
#: Text that is nothing but such a path, spaces and all, or `name=` before one.
WHOLE = re.compile(r"(?P<name>[\w-]+=)?(?:(?:~|[A-Za-z]:)?/|(?:~|[A-Za-z]:|\\(?=\\\w[\w.-]+\\))\\)[^\n]*")
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}\b")


def without_paths(value: Any) -> Any:
    """`value` (text, or lists and dicts of text) with the last part of every absolute path in its place."""
    if isinstance(value, str):
        if whole := WHOLE.fullmatch(value):
            return (whole["name"] or "") + re.split(r"[/\\]", value.rstrip("/\\"))[-1]
        return PATH.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], value)
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    return value


def find_private(text: str, folders: Sequence[Path] = (), tokens: Sequence[str] = ()) -> str | None:
    """
    What in `text` must not be published, in words: a path of this machine, or a token, which is not repeated. `None` if
    there is nothing.

    Args:
        text (`str`): What is to be published.
        folders (`Sequence[Path]`): Folders of this machine whose names must not be in it.
        tokens (`Sequence[str]`): Tokens that must not be in it.
    """
    if TOKEN.search(text) or any(token and token in text for token in tokens):
        return "an access token"
    for folder in folders:
        if len(folder.parts) > 2 and str(folder) in text:
            return f"the path {str(folder)!r}"
    if found := PATH.search(text):
        return f"the path {found[0]!r}"
    return None
