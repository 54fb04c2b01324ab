import json
from pathlib import Path

import pytest

from hf_ser.hub.privacy import find_private, without_paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ravdess=/my data/RAVDESS", "ravdess=RAVDESS"),
        ("--x --corpora ravdess=/data/RAVDESS crema_d=~/a/CREMA-D", "--x --corpora ravdess=RAVDESS crema_d=CREMA-D"),
        ("it is in '/home/me/runs/a'.", "it is in 'a'."),
        (r"C:\Users\me\model", "model"),
        (r"it is in C:\Users\me\model.", "it is in model."),
        (r"\\server\share\model", "model"),
        (r"x=~\runs\model", "x=model"),
        ("/data", "data"),
    ],
)
def test_paths_shrink_to_their_last_part(text: str, expected: str) -> None:
    assert without_paths({"a": [text]}) == {"a": [expected]}


@pytest.mark.parametrize(
    "text",
    ["https://doi.org/10.5683/SP2/E8H2MF", "CC BY/SA", "user/name", "scripts/recipes/demo.yaml", "refs/pr/1", "s / clip",
     r"(.*\.)?encoder\.layers\.\d+\.feed_forward", r"\d+\.attention\.(q|k)_proj", r"layers\.\d+\.attention\.v_proj",
     "see (https://a.org/b/c) and <https://a.org/b/c>"],
)  # fmt: skip
def test_what_is_no_path_of_this_machine_stays(text: str) -> None:
    assert without_paths(text) == text
    assert find_private(text) is None
    assert find_private(json.dumps(text)) is None


def test_what_must_not_be_published_is_named_but_a_token_is_not_repeated() -> None:
    assert find_private(json.dumps({"a": r"C:\Users\me\model"})) is not None
    assert find_private(json.dumps({"a": r"\\server\share\model"})) is not None
    assert find_private("x: /home/me/runs/a") == "the path '/home/me/runs/a'"
    assert find_private("file:///srv/lab/x", [Path("/srv/lab")]) == "the path '/srv/lab'"
    token = "hf_" + "a1B2" * 6
    found = find_private(f"--hub_token {token}")
    assert found == "an access token"
    assert find_private("the secret is abc", tokens=["abc"]) == "an access token"
