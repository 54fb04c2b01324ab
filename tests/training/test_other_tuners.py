"""Tuners of PEFT by their names, through a whole run, with no learning rate given."""

from pathlib import Path

import pytest
from predictions import answers
from safetensors.torch import load_file
from transformers import pipeline

import hf_ser
from hf_ser.results import RunResults
from hf_ser.training import finetune, parse_arguments


def train(folder: Path, speech: Path, model: Path, *more: str) -> RunResults:
    words = ["--corpora", f"synthetic={speech}", "--model_name_or_path", str(model), "--num_train_epochs", "1", "--emotions", "happy", "sad",
             "--lr_scheduler_type", "reduce_lr_on_plateau", "--disable_tqdm", "True", "--output_dir", str(folder), *more]  # fmt: skip
    return finetune(parse_arguments(words))


@pytest.mark.parametrize("method", ["adalora", "ln_tuning", "oft"])
def test_transformers_alone_opens_what_is_merged(method: str, speech: Path, tiny_hubert: Path, tmp_path: Path) -> None:
    """With the predictions of the adapter beside it: no weight is missing, which would be random."""
    more = ["--peft_arguments", '{"oft_block_size": 0, "r": 1}'] if method == "oft" else []
    given = train(tmp_path, speech, tiny_hubert, "--method", method, *more).training.arguments
    assert given["learning_rate"] == 5e-4
    assert given["lr_scheduler_kwargs"]["min_lr"] == 5e-5
    expected = answers(hf_ser.pipeline(tmp_path / "adapter"))
    assert answers(pipeline("audio-classification", model=str(tmp_path))) == pytest.approx(expected, abs=1e-4)


def test_prompts_start_beside_the_frames(speech: Path, tiny_hubert: Path, tmp_path: Path) -> None:
    train(tmp_path, speech, tiny_hubert, "--method", "prompt", "--learning_rate", "1e-9", "--max_steps", "1",
          "--prompt_length", "200", "--bf16", "False")  # fmt: skip
    saved = load_file(tmp_path / "adapter_model.safetensors")
    prompts = [value for name, value in saved.items() if "prompt_" in name]
    assert prompts
    # Random ones are around zero in every feature; frames are around a mean that most features have.
    assert all((prompt.mean(0).abs() > 6 * prompt.std(0) / 200**0.5).any() for prompt in prompts)
    assert '"prompt_start": "frames"' in (tmp_path / "results.json").read_text()


def test_biases_that_train_make_an_adapter_that_belongs_to_no_encoder(
    speech: Path, tiny_hubert: Path, tmp_path: Path
) -> None:
    words = ["--method", "lora_qkv", "--peft_arguments", '{"bias": "all"}', "--learning_rate", "1e-2"]
    with pytest.raises(ValueError, match="its adapter is of no use alone"):
        train(tmp_path / "adapter", speech, tiny_hubert, *words, "--save_format", "adapter")
    train(tmp_path / "merged", speech, tiny_hubert, *words)
    assert not (tmp_path / "merged" / "adapter").exists()
    assert hf_ser.pipeline(tmp_path / "merged").model
    with pytest.raises(ValueError, match="bias='all': combinations train no biases"):
        train(tmp_path / "both", speech, tiny_hubert, "--method", "adapter+lora_ff",
              "--peft_arguments", '{"lora_ff": {"bias": "all"}}')  # fmt: skip
