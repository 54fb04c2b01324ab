"""Private text: paths of this machine and access tokens."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: A part of a path.
PART = r"""[^\s/\\'"`,;:=()\[\]{}<>|]"""
#: An absolute path of two parts or more, or a path below the home folder, at the start of a word. A Windows path starts with a
#: drive, a server or the home folder, and has double backslashes in JSON. A single backslash belongs to a regular expression.
PATH = re.compile(
    rf"(?<![\w.~/)\]-])(?:(?:~|[A-Za-z]:)?/(?:{PART}+[/\\])+{PART}*"
    rf"|(?:~|[A-Za-z]:)\\+(?:{PART}+[/\\]+)+{PART}*"
    rf"|\\{{2,4}}\w[\w.-]+\\+\w(?:{PART}*[/\\]+)*{PART}*)"
)
#: Text that consists of such a path, which may contain spaces, with or without `name=` before it.
WHOLE = re.compile(r"(?P<name>[\w-]+=)?(?:(?:~|[A-Za-z]:)?/|(?:~|[A-Za-z]:|\\(?=\\\w[\w.-]+\\))\\)[^\n]*")
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}\b")


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """`value` (text, or lists and dicts of text) with every text changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {each_text(key, change): each_text(item, change) for key, item in value.items()}
    return [each_text(item, change) for item in value] if isinstance(value, list | tuple) else value


def without_paths(value: Any) -> Any:
    """`value` (text, or lists and dicts of text) with every absolute path replaced by its last part."""

    def last_parts(text: str) -> str:
        if whole := WHOLE.fullmatch(text):
            return (whole["name"] or "") + re.split(r"[/\\]", text.rstrip("/\\"))[-1]
        return PATH.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], text)

    return each_text(value, last_parts)


def find_private(text: str, folders: Sequence[Path] = (), tokens: Sequence[str] = ()) -> str | None:
    """
    Describes the first private item in a text: a path of this machine, among them those of `folders`, or a token, which is not
    repeated. `None` if there is none.
    """
    if TOKEN.search(text) or any(token and token in text for token in tokens):
        return "an access token"
    for folder in folders:
        if len(folder.parts) > 2 and str(folder) in text:
            return f"the path {str(folder)!r}"
    if found := PATH.search(text):
        return f"the path {found[0]!r}"
    return None
