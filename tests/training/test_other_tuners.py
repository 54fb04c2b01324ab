"""A tuner of PEFT by its name, through a whole run, with no learning rate given."""

from pathlib import Path

from hf_ser.training import finetune, parse_arguments


def test_it_has_a_learning_rate_and_leaves_a_checkpoint(speech: Path, tiny_hubert: Path, tmp_path: Path) -> None:
    words = ["--corpora", f"synthetic={speech}", "--model", str(tiny_hubert), "--method", "ia3", "--num_train_epochs", "1",
             "--emotions", "happy", "sad", "--lr_scheduler_type", "reduce_lr_on_plateau", "--disable_tqdm", "True",
             "--output_dir", str(tmp_path / "run")]  # fmt: skip
    arguments = parse_arguments(words)
    results = finetune(arguments)
    assert results["training"]["arguments"]["learning_rate"] == 5e-4
    assert arguments.training.lr_scheduler_kwargs["min_lr"] == 5e-5
    assert (tmp_path / "run" / "model.safetensors").exists()
