"""What goes wrong between here and the Hub, in words that say what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of whatever HTTP library the client uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


class HubError(OSError):
    """The Hub cannot give or take something; the message says why and what to do."""


@contextmanager
def explained(repository: str, revision: str | None = None) -> Iterator[None]:
    """
    Turns whatever the Hub's client raises within it into a [`HubError`].

    Args:
        repository (`str`): The repository that is read or written, for the message.
        revision (`str`, *optional*): The revision that was asked for.
    """
    try:
        yield
    except HubError:
        raise
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, HFValidationError, OSError) as error:
        raise HubError(explain(error, repository, revision)) from error


def explain(error: BaseException, repository: str, revision: str | None = None) -> str:
    """What an exception of the Hub's client means, and what to do about it."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    for cause in chain:
        if message := _known(cause, repository, revision):
            return message
    return f"{repository}: {type(chain[0]).__name__}: {chain[0]}"


def _known(error: BaseException, repository: str, revision: str | None) -> str | None:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, HFValidationError):
        return f"{repository!r} is neither a folder that exists nor a name on the Hub, which has the form user/name"
    if isinstance(error, GatedRepoError):
        return f"{repository} is gated: accept its conditions at {constants.ENDPOINT}/{repository} with the account of your token"
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no branch, tag or commit {revision!r}"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{repository} is not on the Hub, or it is private and your token does not open it. Check the name; for a private "
            "one log in with `hf auth login`, set HF_TOKEN, or pass a token that may read it"
        )
    if status == 401:
        return f"{repository}: the Hub does not know your token. Log in anew with `hf auth login`, or set HF_TOKEN"
    if status == 403:
        return f"{repository}: your token may not do this. Make one with write access at {constants.ENDPOINT}/settings/tokens"
    if isinstance(error, OfflineModeIsEnabled):
        return f"{repository} is not in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE forbids to download it"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            f"{repository}: the disk is full. Make room in {constants.HF_HUB_CACHE} (`hf cache prune`), or set HF_HOME to a "
            "larger disk; the download goes on where it stopped"
        )
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return f"{repository}: a file arrived incomplete. Try again: what is there already is not downloaded anew ({error})"
    if status is not None:
        return f"{repository}: the Hub answers with an error ({status}): {error}"
    if isinstance(error, HTTPError | ConnectionError | TimeoutError):
        return (
            f"{repository}: no connection to {constants.ENDPOINT} ({error}), and the cache ({constants.HF_HUB_CACHE}) does not "
            "have all of it. Check the network and try again"
        )
    return None
