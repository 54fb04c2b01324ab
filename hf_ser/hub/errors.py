"""Errors of the Hub, with the reason and the remedy."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of whatever HTTP library the client uses
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


class HubError(OSError):
    """The Hub cannot be read or written. The message has the reason and the remedy."""


@contextmanager
def explained(repository: str, revision: str | None = None) -> Iterator[None]:
    """Turns errors of the Hub's client into a [`HubError`], whose message has the repository and the requested revision."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:  # the client wraps failed requests, sometimes in a RuntimeError
            if message := _message(cause, repository, revision):
                raise HubError(message) from error
            cause = cause.__cause__ or cause.__context__
        raise


def files_there(api: HfApi, repository: str, revision: str | None) -> list[str]:
    """The files of a repository; none if it or the branch does not exist."""
    try:
        return api.list_repo_files(repository, revision=revision)
    except (RevisionNotFoundError, RepositoryNotFoundError):
        return []


def _message(error: BaseException, repository: str, revision: str | None) -> str | None:
    by_type = {
        HFValidationError: f"{repository!r} is neither an existing folder nor a name on the Hub, which has the form user/name",
        GatedRepoError: f"{repository} is gated: accept its conditions at {constants.ENDPOINT}/{repository} with your token's "
        "account",
        RevisionNotFoundError: f"{repository} has no branch, tag or commit {revision!r}",
        RepositoryNotFoundError: f"{repository} is not on the Hub, or it is private and your token cannot read it. Check the "
        "name; for a private repository log in with `hf auth login`, set HF_TOKEN, or pass a token",
        OfflineModeIsEnabled: f"{repository} is not in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE forbids to "
        "download it",
    }
    by_status = {
        401: "the Hub does not accept your token. Log in again with `hf auth login`, or set HF_TOKEN",
        403: f"your token has no write access. Create one that has at {constants.ENDPOINT}/settings/tokens",
    }
    for kind, message in by_type.items():
        if isinstance(error, kind):
            return message
    if isinstance(error, HfHubHTTPError):
        other = f"the Hub answered with an error ({_one_line(error)})"
        return f"{repository}: {by_status.get(error.response.status_code, other)}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            f"{repository}: the disk is full. Free space in {constants.HF_HUB_CACHE} (`hf cache prune`), or set HF_HOME to a "
            "larger disk; the download continues where it stopped"
        )
    if isinstance(error, OSError) and str(error).startswith("Consistency check failed"):
        return f"{repository}: a downloaded file has another size than the Hub says, and was deleted. Try again"
    if isinstance(error, HTTPError | ConnectionError | TimeoutError):
        return (
            f"{repository}: no connection to {constants.ENDPOINT} ({_one_line(error)}). Check the network and try again"
        )
    return None


def _one_line(error: BaseException) -> str:
    """A failed request in one line, with the Hub's own message and without the link to an explanation of HTTP."""
    text = re.sub(r"For more information check: \S+", "", str(error)) or type(error).__name__
    return " ".join(text.split())[:300]
