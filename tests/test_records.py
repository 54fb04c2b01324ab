"""The files that a run leaves beside its model are whole or missing; an error names a file that is another."""

import json
from pathlib import Path

import pytest

from hf_ser import records


def test_what_is_written_is_read(tmp_path: Path) -> None:
    content = dict.fromkeys(records.HELD, "é")
    records.write(tmp_path / "results.json", content)
    assert records.read(tmp_path / "results.json") == records.read_results(tmp_path / "results.json") == content
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_an_interruption_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="JSON"):
        records.write(path, {"uar": float("nan")})
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("results.json", "{}")]


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "but no JSON"), ("[1]", "expected an object, found list"), ("{}", "it has no base_model, method, emotions")],
)
def test_what_is_no_record_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=rf"results\.json: not as .*{says}"):
        records.read_results(tmp_path / "results.json")


def test_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(json.dumps({"a": "é"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(ValueError, match=r"report\.json: not as hf_ser writes it"):
        records.read(tmp_path / "report.json")
