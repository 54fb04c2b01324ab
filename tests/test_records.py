"""The files that a run leaves beside its model are whole or missing; an error names a file that is another."""

from pathlib import Path

import pytest

from hf_ser import records


def test_an_interruption_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="JSON"):
        records.write(path, {"uar": float("nan")})
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("results.json", "{}")]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "but no JSON"), (b"[1]", "expected an object, found list"), ('{"a": "é"}'.encode("latin-1"), "but no JSON")],
)
def test_what_is_no_record_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"report\.json: not as .*{says}"):
        records.read(tmp_path / "report.json")
