"""Which parameters move, which do not, and what an adapter brings along."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel, PrefixTuningConfig
from safetensors.torch import load_file
from tiny_models import make_hubert
from transformers import HubertForSequenceClassification, HubertModel, Wav2Vec2FeatureExtractor
from tuned_models import TunedModel

import hf_ser
from hf_ser.modeling import load_model
from hf_ser.tuning import BottleneckConfig, DeepPromptConfig, Tuning, parameter_counts, tune


def test_lora_qkv_trains_the_three_projections_and_the_head(tiny_hubert: Path) -> None:
    trainable = TunedModel(tiny_hubert, "lora_qkv").trainable
    lora = {name for name in trainable if "lora_" in name}
    assert len(lora) == 2 * 3 * 2  # layers, projections, matrices
    assert all(any(f".{p}_proj." in name for p in "qkv") for name in lora)
    assert {name.split(".modules_to_save.")[0].split(".")[-1] for name in trainable - lora} == {
        "projector",
        "classifier",
    }


def test_lora_classifier_trains_two_matrices(tiny_hubert: Path) -> None:
    tuned = TunedModel(tiny_hubert, "lora_classifier", lora_r=4)
    assert parameter_counts(tuned.model)[0] == 4 * (24 + 4)
    assert all("classifier.lora_" in name for name in tuned.trainable)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_full_with_convolutions_computes_no_gradient_of_the_samples(tiny_hubert: Path, checkpointing: bool) -> None:
    tuned = TunedModel(tiny_hubert, "full", freeze_feature_encoder=False)
    if checkpointing:
        tuned.model.gradient_checkpointing_enable()
    samples = []
    first = tuned.model.base_model.feature_extractor.conv_layers[0].conv
    first.register_forward_pre_hook(lambda module, inputs: samples.append(inputs[0]))

    assert tuned.train() == tuned.trainable
    assert samples
    assert not any(values.requires_grad for values in samples)


def test_targets_rank_and_scale_can_be_chosen(tiny_hubert: Path) -> None:
    tuned = TunedModel(tiny_hubert, "lora_qkv", lora_r=3, lora_alpha=12, lora_target_modules=["out_proj"])
    lora = {name for name in tuned.trainable if "lora_" in name}
    assert lora
    assert all("out_proj" in name for name in lora)
    assert tuned.model.base_model.model.hubert.encoder.layers[0].attention.out_proj.scaling["default"] == 4


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (BottleneckConfig(bottleneck_size=4), "hubert.encoder.layers.{}.feed_forward"),
        ("bottleneck", "hubert.encoder.layers.{}.feed_forward"),
        (DeepPromptConfig(), "hubert.encoder.layers.{}"),
    ],
)
def test_the_packages_own_tuners_find_their_targets(tiny_hubert: Path, method: str | PeftConfig, target: str) -> None:
    """Trap: their configurations got the targets of a LoRA."""
    model: Any = tune(load_model(str(tiny_hubert), ("happy", "sad")), Tuning.of(method)).model
    assert model.base_model.targeted_module_names == [target.format(layer) for layer in (0, 1)]


def test_a_configuration_for_text_is_refused(tiny_hubert: Path) -> None:
    with pytest.raises(ValueError, match="expected a tuner that fits an encoder of speech"):
        tune(load_model(str(tiny_hubert), ("happy", "sad")), Tuning.of(PrefixTuningConfig(num_virtual_tokens=2)))


class TestFrozen:
    """Trap: frozen modules left in train mode drop out and mask at random."""

    @pytest.mark.parametrize(
        ("encoder", "method", "head"),
        [
            ("tiny_hubert", "frozen", "stock"),
            ("tiny_hubert", "lora_classifier", "conv"),
            ("tiny_whisper", "frozen", "conv"),
        ],
    )
    def test_spec_augment_is_refused(
        self, encoder: str, method: str, head: str, request: pytest.FixtureRequest
    ) -> None:
        with pytest.raises(ValueError, match=f"mask_time_prob.*method='{method}' freezes the encoder"):
            TunedModel(request.getfixturevalue(encoder), method, head=head, mask_time_prob=0.1)

    def test_with_lora_classifier_the_encoder_is_in_eval_mode_in_training(self, tmp_path: Path) -> None:
        folder = make_hubert(tmp_path / "drop", hidden_dropout=0.5, feat_proj_dropout=0.5, attention_dropout=0.5)
        tuned = TunedModel(folder, "lora_classifier")
        expected = tuned.logits()
        tuned.model.train()
        assert not torch.allclose(tuned.model(**tuned.inputs).logits, expected, atol=1e-4)
        tuned.set_to_train()
        torch.testing.assert_close(tuned.model(**tuned.inputs).logits, expected)

    def test_what_holds_a_lora_still_drops_out(self, tmp_path: Path) -> None:
        tuned = TunedModel(make_hubert(tmp_path / "drop", hidden_dropout=0.5), "lora_qkv")
        tuned.set_to_train()
        hubert = tuned.model.base_model.model.hubert
        assert not hubert.feature_extractor.training
        assert not hubert.encoder.layers[0].feed_forward.intermediate_dropout.training
        assert hubert.encoder.layers[0].dropout.training
        assert tuned.model.base_model.model.classifier.modules_to_save["default"].training


class TestAdapter:
    @pytest.mark.parametrize(
        ("method", "head"), [("lora_qkv", "batchnorm"), ("lora_classifier", "stock"), ("lora_classifier", "batchnorm")]
    )
    def test_it_opens_here_with_peft_alone_and_merged_with_the_logits_that_it_was_trained_to(
        self, method: str, head: str, tiny_hubert: Path, tmp_path: Path
    ) -> None:
        """Trap: a LoRA on the classifier does not save the random layer under it; nor would PEFT know a batch norm."""
        tuned = TunedModel(tiny_hubert, method, head=head)
        tuned.train()
        expected = tuned.logits()
        tuned.save(tmp_path)
        torch.testing.assert_close(tuned.opened_logits(tmp_path), expected, atol=1e-5, rtol=0)
        base = HubertForSequenceClassification.from_pretrained(tiny_hubert, num_labels=4)
        opened = PeftModel.from_pretrained(base, tmp_path)
        torch.testing.assert_close(tuned.logits(opened), expected, atol=1e-5, rtol=0)

        keys = load_file(tmp_path / "adapter_model.safetensors").keys()
        assert {"projector", "classifier"} <= {key.removeprefix("base_model.model.").split(".")[0] for key in keys}
        assert all("lora_" in key for key in keys if key.startswith("base_model.model.hubert"))
        assert not any("original_module" in key for key in keys)

        other = HubertModel.from_pretrained(make_hubert(tmp_path / "other"), dtype=torch.float32)
        with torch.no_grad():
            other.encoder.layers[0].feed_forward.output_dense.weight.mul_(1.01)
        other.save_pretrained(tmp_path / "other")
        with pytest.raises(ValueError, match="was trained on other weights than those of .*other"):
            hf_ser.pipeline(tmp_path, base=str(tmp_path / "other"))
        torch.testing.assert_close(tuned.logits(tuned.model.merge_and_unload()), expected, atol=1e-5, rtol=0)

    def test_weights_of_a_layer_sum_are_trained_and_saved(self, tiny_hubert: Path, tmp_path: Path) -> None:
        """Trap: they stay frozen, and PEFT does not save them."""
        tuned = TunedModel(tiny_hubert, "lora_qkv", weighted_layer_sum=True)
        assert any("layer_weights" in name for name in tuned.train())
        tuned.save(tmp_path)
        torch.testing.assert_close(tuned.opened_logits(tmp_path), tuned.logits(), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("new", [True, False], ids=["new", "of the checkpoint"])
    def test_lora_classifier_leaves_the_weights_of_a_layer_sum_as_they_are(self, new: bool, tmp_path: Path) -> None:
        """HuBERT-SER trains the LoRA alone. The adapter holds the weights if the checkpoint does not."""
        base = make_hubert(tmp_path / "base")
        if not new:
            HubertForSequenceClassification.from_pretrained(base, use_weighted_layer_sum=True).save_pretrained(base)
        tuned = TunedModel(base, "lora_classifier", weighted_layer_sum=new)
        if new:
            with torch.no_grad():
                tuned.loaded.model.layer_weights.normal_()
        moved = tuned.train()
        assert {".".join(name.split(".")[-4:-2]) for name in moved} == {"classifier.lora_A", "classifier.lora_B"}
        tuned.save(tmp_path / "adapter")
        keys = load_file(tmp_path / "adapter" / "adapter_model.safetensors").keys()
        assert any("layer_weights" in key for key in keys) is new
        torch.testing.assert_close(tuned.opened_logits(tmp_path / "adapter"), tuned.logits(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["lora_qkv", "lora_classifier"])
def test_an_adapter_keeps_the_order_of_its_emotions_on_a_base_that_has_another(
    method: str, tiny_hubert: Path, tmp_path: Path
) -> None:
    base = HubertForSequenceClassification.from_pretrained(tiny_hubert, num_labels=4)
    base.config.id2label = dict(enumerate(("neu", "hap", "ang", "sad")))
    base.save_pretrained(tmp_path / "superb")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(tmp_path / "superb")
    tuned = TunedModel(tmp_path / "superb", method)
    tuned.train()
    tuned.save(tmp_path)
    torch.testing.assert_close(tuned.opened_logits(tmp_path), tuned.logits(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("method", "targets"),
    [
        ("lora_classifier", ["out_proj"]),
        ("lora_classifier", ["classifier.out_proj", "q_proj"]),
        ("adapter+lora_ff", None),
    ],
)
def test_a_folded_head_keeps_its_lora_whatever_else_has_one(
    method: str, targets: list[str] | None, tiny_hubert: Path, tmp_path: Path
) -> None:
    tuned = TunedModel(tiny_hubert, method, head="batchnorm", lora_target_modules=targets)
    tuned.train()
    expected = tuned.logits()
    tuned.save(tmp_path)
    torch.testing.assert_close(tuned.opened_logits(tmp_path), expected, atol=1e-5, rtol=0)


def test_counts_leave_out_the_copies_that_peft_keeps(tiny_hubert: Path) -> None:
    size = sum(p.numel() for p in TunedModel(tiny_hubert, "full").model.parameters())
    model = TunedModel(tiny_hubert, "lora_qkv").model
    lora = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert parameter_counts(model)[1] == size + lora
