"""The types that a model trains in do not change what is saved of it."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import DatasetDict
from safetensors.torch import load_file
from trainings import losses
from transformers import TrainerCallback

import hf_ser
from hf_ser.training import SERConfig, SERTrainer, base
from hf_ser.training.frozen import cache

Make = Callable[..., tuple[SERTrainer, DatasetDict]]
SHORT = ("--max_steps", "2", "--save_strategy", "no", "--eval_strategy", "no", "--logging_strategy", "steps", "--logging_steps", "1",
         "--frozen_cache_gb", "0", "--bf16", "True")  # fmt: skip


class Types(TrainerCallback):
    """Notes the type of each parameter in training."""

    def on_step_end(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        self.found = {name: p.dtype for name, p in model.named_parameters()}


class TestBaseModelInBfloat16:
    @pytest.mark.parametrize("kind", ["tiny_hubert", "group_norm_hubert"])
    def test_it_is_the_same_training_and_saves_the_same_model(
        self, kind: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        saved, found, types = [], [], Types()
        for dtype in ("float32", "bfloat16"):
            with monkeypatch.context() as patch:
                if dtype == "float32":
                    patch.setattr(base, "frozen_weights_in_bfloat16", nullcontext)
                trainer, _ = make(*SHORT, "--method", "lora_qkv", checkpoint=request.getfixturevalue(kind))
                trainer.add_callback(types)
                trainer.train()
            found.append(losses(trainer))
            trainer.save_model(str(tmp_path / dtype))
            saved.append([load_file(path) for path in sorted((tmp_path / dtype).rglob("*.safetensors"))])
        assert found[0] == found[1]
        halved = {name for name, dtype in types.found.items() if dtype == torch.bfloat16}
        layer = "base_model.model.hubert.encoder.layers.0"
        assert {f"{layer}.attention.q_proj.base_layer.weight", f"{layer}.feed_forward.output_dense.bias"} <= halved
        assert not any(word in name for name in halved for word in ("lora_", "layer_norm", "classifier", "projector"))
        for one, other in zip(*saved, strict=True):
            assert all(
                tensor.dtype == torch.float32 and torch.equal(tensor, one[name]) for name, tensor in other.items()
            )
        waveform = {"array": torch.randn(8000).numpy(), "sampling_rate": 16_000}
        merged, adapter = (hf_ser.pipeline(tmp_path / "bfloat16" / folder)(waveform) for folder in ("", "adapter"))
        for one, other in zip(merged, adapter, strict=True):
            assert one["label"] == other["label"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_features_that_train_are_in_bfloat16_and_those_that_predict_in_float32(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache"))  # no other test has computed these features
    found = []
    compute = cache.compute

    def watched(model: Any, *args: Any, **kwargs: Any) -> Any:
        weight = model.base_model.encoder.layers[0].attention.q_proj.weight
        found.append((weight.dtype, torch.is_autocast_enabled("cpu")))
        return compute(model, *args, **kwargs)

    monkeypatch.setattr(cache, "compute", watched)
    trainer, parts = make("--method", "probe", "--head", "linear", "--bf16", "True")
    trainer.train()
    assert set(found) == {(torch.bfloat16, True)}
    found.clear()
    trainer.evaluate(parts["test"])
    assert set(found) == {(torch.float32, False)}


class TestAttention:
    def test_the_chosen_implementation_computes_in_training_alone(self, make: Make) -> None:
        trainer, _ = make(*SHORT, "--attn_implementation", "eager")
        found = []

        class Watch(TrainerCallback):
            def on_step_end(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
                found.append(model.config._attn_implementation)

        trainer.add_callback(Watch())
        trainer.train()
        assert found == ["eager"] * 2
        assert trainer.model.config._attn_implementation == "sdpa"

    def test_flash_attention_is_refused_where_it_would_fail_later(self, tmp_path: Path, make: Make) -> None:
        with pytest.raises(ValueError, match="expected sdpa, flash_attention_2 or eager, found 'kernels-community/x'"):
            SERConfig(output_dir=str(tmp_path), attn_implementation="kernels-community/x")
        with pytest.raises(ImportError, match="(?i)flash"):
            make(*SHORT, "--attn_implementation", "flash_attention_2")
