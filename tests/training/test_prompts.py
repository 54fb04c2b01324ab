"""Embedding prompts through a whole run."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from hf_ser.training import finetune, parse_arguments


@pytest.mark.parametrize(("start", "options"), [("frames", ()), ("random", ("--prompt_start", "random"))])
def test_a_run_starts_them_where_it_should_and_records_it(
    start: str, options: tuple[str, ...], speech: Path, tiny_hubert: Path, tmp_path: Path
) -> None:
    words = ["--corpora", f"synthetic={speech}", "--model_name_or_path", str(tiny_hubert), "--method", "prompt", "--learning_rate", "1e-9",
             "--max_steps", "1", "--prompt_length", "200", "--emotions", "happy", "sad", "--disable_tqdm", "True", "--bf16", "False",
             "--output_dir", str(tmp_path / "run"), *options]  # fmt: skip
    finetune(parse_arguments(words))
    saved = load_file(tmp_path / "run" / "adapter_model.safetensors")
    prompts = [value for name, value in saved.items() if "prompt_" in name]
    # Random ones are around zero in every feature; frames are around a mean that most features have.
    beside_zero = [prompt.mean(0).abs() > 6 * prompt.std(0) / 200**0.5 for prompt in prompts]
    assert prompts
    assert all(beside.any() == (start == "frames") for beside in beside_zero)
    assert f'"prompt_start": "{start}"' in (tmp_path / "run" / "results.json").read_text()


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises((SystemExit, ValueError), match="2|prompt_start"):
        parse_arguments(["--corpora", "x=y", "--output_dir", "z", "--method", "prompt", "--prompt_start", "zero"])
