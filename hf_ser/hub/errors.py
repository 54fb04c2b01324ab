"""What goes wrong between here and the Hub, in words that say what to do."""

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

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

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
#: How often something is tried, and the seconds before the second time; each later one waits twice as long.
TRIES, PAUSE = 5, 1.0


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
    except Exception as error:
        # What the client raises is no OSError in part, and it wraps what happens to a file in a RuntimeError.
        if not isinstance(error, OSError | HFValidationError) and http_error(error) is None:
            raise
        raise HubError(explain(error, repository, revision)) from error


def again(action: Callable[[], Result], repository: str) -> Result:
    """Does `action`, and again while the connection drops or the Hub stumbles, which the client does not do everywhere."""
    for nth in range(1, TRIES + 1):
        try:
            return action()
        except Exception as error:
            failed = http_error(error)
            status = failed.response.status_code if isinstance(failed, HfHubHTTPError) else None
            lasting = status is not None and status < 500 and status not in (408, 409, 429)
            if failed is None or lasting or nth == TRIES or isinstance(error, LocalEntryNotFoundError):
                raise
            pause = PAUSE * 2 ** (nth - 1)
            logger.warning(
                "%s: try %d of %d failed (%s); the next in %g s", repository, nth, TRIES, _short(failed), pause
            )
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def explain(error: BaseException, repository: str, revision: str | None = None) -> str:
    """What an exception of the Hub's client means, and what to do about it."""
    for cause in causes(error):
        if message := _known(cause, repository, revision):
            return message
    return f"{repository}: {type(error).__name__}: {error}"


def causes(error: BaseException) -> list[BaseException]:
    """An exception, what it was raised from, and so on."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain


def http_error(error: BaseException) -> HTTPError | None:
    """The failed request behind an exception, `None` if there is none."""
    return next((cause for cause in causes(error) if isinstance(cause, HTTPError)), None)


def is_refusal(error: BaseException) -> bool:
    """Whether the Hub does not take what it was sent, and would not take it another time either."""
    failed = http_error(error)
    return isinstance(failed, HfHubHTTPError) and failed.response.status_code in (400, 413, 422)


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
        return f"{repository}: the Hub answers with an error ({_short(error)})"
    if isinstance(error, HTTPError | ConnectionError | TimeoutError):
        return f"{repository}: no connection to {constants.ENDPOINT} ({_short(error)}). Check the network and try again"
    return None


def _short(error: BaseException) -> str:
    """An error of a request in one line, with what the Hub says of it and without where to read about HTTP."""
    text = str(error).partition("For more information check")[0] or type(error).__name__
    said = error.server_message if isinstance(error, HfHubHTTPError) else None
    text, said = (re.sub(r"\s+", " ", words or "").strip() for words in (text, said))
    return (text if said in text else f"{text} {said}")[:300]
