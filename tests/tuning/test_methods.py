"""Which parameters move, which do not, and what an adapter brings along."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import HubertForSequenceClassification, HubertModel, Wav2Vec2FeatureExtractor

import hf_ser
from hf_ser.modeling import load_model
from hf_ser.tuning import Tuned, Tuning, fold_head, frozen_modules, parameter_counts, save_adapter, tune

FOUR = ("angry", "happy", "neutral", "sad")


def tuned_model(checkpoint: Path, method: str, **options: object) -> Tuned:
    torch.manual_seed(0)
    head = str(options.pop("head", "stock"))
    weighted = bool(options.pop("weighted_layer_sum", False))
    masks = float(str(options.pop("mask_time_prob", 0)))
    loaded = load_model(str(checkpoint), FOUR, head=head, weighted_layer_sum=weighted, mask_time_prob=masks)
    return tune(loaded, Tuning(method=method, **options))  # type: ignore[arg-type]


def train_a_little(model: torch.nn.Module, steps: int = 2) -> tuple[set[str], set[str]]:
    """
    Trains for some steps with the mask in use; returns the parameters that moved and those that should. Two steps: a
    LoRA's first matrix gets no gradient while its second is zero.
    """
    frozen = frozen_modules(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        model.train()
        for module in frozen:
            module.eval()
        mask = torch.ones(4, 12_000, dtype=torch.long)
        mask[2:, 9000:] = 0
        model(torch.randn(4, 12_000) * mask, attention_mask=mask, labels=torch.tensor([0, 1, 2, 3])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    return moved, {name for name, p in model.named_parameters() if p.requires_grad}


def logits(model: torch.nn.Module) -> torch.Tensor:
    values = torch.sin(torch.arange(24_000) / 7).reshape(2, 12_000)
    with torch.no_grad():
        return model.eval()(values, attention_mask=torch.ones(2, 12_000, dtype=torch.long)).logits


def save(tuned: Tuned, folder: Path, base: Path) -> None:
    """An adapter's folder, as a run leaves it."""
    save_adapter(tuned.model, fold_head(tuned.model, tuned.new), folder, base=str(base))
    tuned.model.config.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)


def names(model: torch.nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_lora_qkv_trains_the_three_projections_and_the_head(tiny_hubert: Path) -> None:
    trainable = names(tuned_model(tiny_hubert, "lora_qkv").model)
    lora = {name for name in trainable if "lora_" in name}
    assert len(lora) == 2 * 3 * 2  # layers, projections, matrices
    assert all(any(f".{p}_proj." in name for p in "qkv") for name in lora)
    assert {name.split(".modules_to_save.")[0].split(".")[-1] for name in trainable - lora} == {
        "projector",
        "classifier",
    }


def test_lora_classifier_trains_two_matrices(tiny_hubert: Path) -> None:
    model = tuned_model(tiny_hubert, "lora_classifier", lora_r=4).model
    assert parameter_counts(model)[0] == 4 * (24 + 4)
    assert all("classifier.lora_" in name for name in names(model))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_full_with_convolutions_computes_no_gradient_of_the_samples(tiny_hubert: Path, checkpointing: bool) -> None:
    model = tuned_model(tiny_hubert, "full", freeze_feature_encoder=False).model
    if checkpointing:
        model.gradient_checkpointing_enable()
    samples = []
    first = model.base_model.feature_extractor.conv_layers[0].conv
    first.register_forward_pre_hook(lambda module, inputs: samples.append(inputs[0]))

    moved, trainable = train_a_little(model)

    assert samples
    assert not any(values.requires_grad for values in samples)
    assert moved == trainable


def test_targets_rank_and_scale_can_be_chosen(tiny_hubert: Path) -> None:
    model = tuned_model(tiny_hubert, "lora_qkv", lora_r=3, lora_alpha=12, lora_target_modules=["out_proj"]).model
    lora = {name for name in names(model) if "lora_" in name}
    assert lora
    assert all("out_proj" in name for name in lora)
    assert model.base_model.model.hubert.encoder.layers[0].attention.out_proj.scaling["default"] == 4


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
            tuned_model(request.getfixturevalue(encoder), method, head=head, mask_time_prob=0.1)

    def test_with_lora_classifier_the_encoder_is_in_eval_mode_in_training(
        self, make_hubert: Callable[..., Path], tmp_path: Path
    ) -> None:
        folder = make_hubert(tmp_path / "drop", hidden_dropout=0.5, feat_proj_dropout=0.5, attention_dropout=0.5)
        model = tuned_model(folder, "lora_classifier", lora_dropout=0.0).model
        expected = logits(model)
        frozen = frozen_modules(model)
        model.train()
        values = torch.sin(torch.arange(24_000) / 7).reshape(2, 12_000)
        mask = torch.ones(2, 12_000, dtype=torch.long)
        assert not torch.allclose(model(values, attention_mask=mask).logits, expected, atol=1e-4)
        for module in frozen:
            module.eval()
        torch.testing.assert_close(model(values, attention_mask=mask).logits, expected)

    def test_what_holds_a_lora_still_drops_out(self, make_hubert: Callable[..., Path], tmp_path: Path) -> None:
        model = tuned_model(make_hubert(tmp_path / "drop", hidden_dropout=0.5), "lora_qkv").model
        model.train()
        for module in frozen_modules(model):
            module.eval()
        hubert = model.base_model.model.hubert
        assert not hubert.feature_extractor.training
        assert not hubert.encoder.layers[0].feed_forward.intermediate_dropout.training
        assert hubert.encoder.layers[0].dropout.training
        assert model.base_model.model.classifier.modules_to_save["default"].training


class TestAdapter:
    @pytest.mark.parametrize(
        ("method", "head"), [("lora_qkv", "batchnorm"), ("lora_classifier", "stock"), ("lora_classifier", "batchnorm")]
    )
    def test_it_opens_here_with_peft_alone_and_merged_with_the_logits_that_it_was_trained_to(
        self, method: str, head: str, make_hubert: Callable[..., Path], tiny_hubert: Path, tmp_path: Path
    ) -> None:
        """Trap: a LoRA on the classifier does not save the random layer under it; nor would PEFT know a batch norm."""
        tuned = tuned_model(tiny_hubert, method, head=head)
        train_a_little(tuned.model)
        expected = logits(tuned.model)
        save(tuned, tmp_path, tiny_hubert)
        torch.manual_seed(99)  # whatever is drawn at random while it opens must be replaced
        base = HubertForSequenceClassification.from_pretrained(tiny_hubert, num_labels=4)
        for opened in (hf_ser.pipeline(tmp_path).model, PeftModel.from_pretrained(base, tmp_path)):
            torch.testing.assert_close(logits(opened), expected, atol=1e-5, rtol=0)

        with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
            keys = set(file.keys())
        assert {"projector", "classifier"} <= {key.removeprefix("base_model.model.").split(".")[0] for key in keys}
        assert all("lora_" in key for key in keys if key.startswith("base_model.model.hubert"))
        assert not any("original_module" in key for key in keys)

        other = HubertModel.from_pretrained(make_hubert(tmp_path / "other"), dtype=torch.float32)
        with torch.no_grad():
            other.encoder.layers[0].feed_forward.output_dense.weight.mul_(1.01)
        other.save_pretrained(tmp_path / "other")
        with pytest.raises(ValueError, match="was trained on other weights than those of .*other"):
            hf_ser.pipeline(tmp_path, base=str(tmp_path / "other"))
        torch.testing.assert_close(logits(tuned.model.merge_and_unload()), expected, atol=1e-5, rtol=0)

    def test_weights_of_a_layer_sum_are_trained_and_saved(self, tiny_hubert: Path, tmp_path: Path) -> None:
        """Trap: they stay frozen, and PEFT does not save them."""
        tuned = tuned_model(tiny_hubert, "lora_qkv", weighted_layer_sum=True)
        moved, _ = train_a_little(tuned.model)
        assert any("layer_weights" in name for name in moved)
        save(tuned, tmp_path, tiny_hubert)
        torch.testing.assert_close(logits(hf_ser.pipeline(tmp_path).model), logits(tuned.model), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("new", [True, False], ids=["new", "of the checkpoint"])
    def test_lora_classifier_leaves_the_weights_of_a_layer_sum_as_they_are(
        self, new: bool, make_hubert: Callable[..., Path], tmp_path: Path
    ) -> None:
        """HuBERT-SER trains the LoRA alone. The adapter holds the weights if the checkpoint does not."""
        base = make_hubert(tmp_path / "base")
        if not new:
            HubertForSequenceClassification.from_pretrained(base, use_weighted_layer_sum=True).save_pretrained(base)
        tuned = tuned_model(base, "lora_classifier", weighted_layer_sum=new)
        if new:
            with torch.no_grad():
                tuned.model.get_base_model().layer_weights.normal_()
        moved, _ = train_a_little(tuned.model)
        assert {".".join(name.split(".")[-4:-2]) for name in moved} == {"classifier.lora_A", "classifier.lora_B"}
        save(tuned, tmp_path / "adapter", base)
        with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
            keys = set(file.keys())
        assert any("layer_weights" in key for key in keys) is new
        opened = hf_ser.pipeline(tmp_path / "adapter").model
        torch.testing.assert_close(logits(opened), logits(tuned.model), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["lora_qkv", "lora_classifier"])
def test_an_adapter_keeps_the_order_of_its_emotions_on_a_base_that_has_another(
    method: str, tiny_hubert: Path, tmp_path: Path
) -> None:
    base = HubertForSequenceClassification.from_pretrained(tiny_hubert, num_labels=4)
    base.config.id2label = dict(enumerate(("neu", "hap", "ang", "sad")))
    base.save_pretrained(tmp_path / "superb")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(tmp_path / "superb")
    tuned = tuned_model(tmp_path / "superb", method)
    train_a_little(tuned.model)
    save(tuned, tmp_path, tmp_path / "superb")
    torch.testing.assert_close(logits(hf_ser.pipeline(tmp_path).model), logits(tuned.model), atol=1e-5, rtol=0)


@pytest.mark.parametrize("targets", [["out_proj"], ["classifier.out_proj", "q_proj"]])
def test_a_folded_head_keeps_its_lora_whatever_else_has_one(
    targets: list[str], tiny_hubert: Path, tmp_path: Path
) -> None:
    tuned = tuned_model(tiny_hubert, "lora_classifier", head="batchnorm", lora_target_modules=targets)
    train_a_little(tuned.model)
    expected = logits(tuned.model)
    save(tuned, tmp_path, tiny_hubert)
    torch.testing.assert_close(logits(hf_ser.pipeline(tmp_path).model), expected, atol=1e-5, rtol=0)


def test_an_unknown_method_is_refused(tiny_hubert: Path) -> None:
    with pytest.raises(ValueError, match="method='magic': expected one of full, frozen, probe, lora_qkv"):
        tuned_model(tiny_hubert, "magic")


def test_counts_leave_out_the_copies_that_peft_keeps(tiny_hubert: Path) -> None:
    plain = load_model(str(tiny_hubert), FOUR).model
    size = sum(p.numel() for p in plain.parameters())
    model = tuned_model(tiny_hubert, "lora_qkv").model
    lora = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert parameter_counts(model)[1] == size + lora
