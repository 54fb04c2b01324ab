import json
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_hubert
from transformers import (
    ASTConfig,
    AutoModelForAudioClassification,
    HubertForSequenceClassification,
    set_seed,
)

from hf_ser.modeling import (
    BatchNormClassifier,
    Loaded,
    StandardisedLinear,
    fold_training_layers,
    load_model,
    resolve_checkpoint,
)
from hf_ser.modeling.families import minimum_samples_in_training
from hf_ser.training.dataset import SpeechCollator

FOUR = ("angry", "happy", "neutral", "sad")


@pytest.fixture
def superb(tiny_hubert: Path, tmp_path: Path) -> Path:
    """A checkpoint with the labels of superb's, in superb's order."""
    model = HubertForSequenceClassification.from_pretrained(tiny_hubert, num_labels=4)
    model.config.id2label = dict(enumerate(("neu", "hap", "ang", "sad")))
    model.save_pretrained(tmp_path / "superb")
    (tmp_path / "superb/preprocessor_config.json").write_text((tiny_hubert / "preprocessor_config.json").read_text())
    return tmp_path / "superb"


class TestLoad:
    def test_weights_stored_as_float16_are_trained_as_float32(self, shared: Path) -> None:
        """Trap: transformers 5 loads weights in the type they were stored in."""
        model = load_model(str(shared / "models/hubert-mini"), FOUR).model
        assert {p.dtype for p in model.parameters()} == {torch.float32}

    def test_layers_are_not_left_out_at_random(self, tmp_path: Path) -> None:
        """Trap: layerdrop fails with distributed training and gradient checkpointing."""
        folder = make_hubert(tmp_path / "drop", layerdrop=0.5)
        assert load_model(str(folder), FOUR).model.config.layerdrop == 0.0

    def test_what_is_new_is_logged_once(self, tiny_hubert: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "hf_ser"):
            loaded = load_model(str(tiny_hubert), FOUR)
            load_model(str(tiny_hubert), FOUR, head="linear")  # which is solved as a probe
        assert loaded.new == ("classifier.bias", "classifier.weight", "projector.bias", "projector.weight")
        assert [record.getMessage() for record in caplog.records] == [
            "new stock head for angry, happy, neutral and sad (randomly initialised: classifier, projector)",
            "new linear head for angry, happy, neutral and sad",
        ]
        assert loaded.model.config.id2label == dict(enumerate(FOUR))

    def test_a_classifier_for_the_same_emotions_is_kept_in_the_new_order(self, superb: Path) -> None:
        before = HubertForSequenceClassification.from_pretrained(superb)
        loaded = load_model(str(superb), FOUR)
        assert loaded.new == ("classifier.bias", "classifier.weight")
        order = [2, 1, 0, 3]  # ang, hap, neu, sad
        assert torch.equal(loaded.model.classifier.weight, before.classifier.weight[order])
        assert torch.equal(loaded.model.classifier.bias, before.classifier.bias[order])

    @pytest.mark.parametrize("emotions", [("angry", "calm", "happy", "sad"), ("angry", "happy", "sad")])
    def test_a_classifier_for_other_emotions_is_replaced_and_the_projector_kept(
        self, superb: Path, emotions: tuple[str, ...], caplog: pytest.LogCaptureFixture
    ) -> None:
        before = HubertForSequenceClassification.from_pretrained(superb)
        with caplog.at_level(logging.INFO, "hf_ser"):
            loaded = load_model(str(superb), emotions)
        assert loaded.new == ("classifier.bias", "classifier.weight")
        assert torch.equal(loaded.model.projector.weight, before.projector.weight)
        assert not torch.equal(loaded.model.classifier.weight[:3], before.classifier.weight[:3])
        assert "the checkpoint's own head was for neutral, happy, angry, sad" in caplog.text

    def test_the_packages_own_model_is_made_when_it_is_asked_for(self) -> None:
        folder = Path(resolve_checkpoint("hubert-tiny-random"))
        assert (folder / "model.safetensors").exists()
        assert resolve_checkpoint("hubert-tiny-random") == str(folder)
        assert load_model("hubert-tiny-random", FOUR).model.config.num_labels == 4

    @pytest.mark.parametrize("head", ["linear", "stock", "conv"])
    def test_a_head_of_the_packages_own_class_is_kept_or_replaced_by_the_one_that_is_asked_for(
        self, tiny_whisper: Path, tmp_path: Path, head: str
    ) -> None:
        """Trap: it stayed, whatever was asked for, with a new average of layers that it does not take."""
        for own in ("linear", "stock", "conv"):
            trained = load_model(str(tiny_whisper), FOUR, head=own)
            fold_training_layers(trained.model).save_pretrained(tmp_path / own)
            trained.feature_extractor.save_pretrained(tmp_path / own)
            loaded = load_model(str(tmp_path / own), FOUR, head=head, weighted_layer_sum=head == "stock")
            assert loaded.model.config.head == head
            clips = [np.sin(np.arange(n) / 7).astype(np.float32) for n in (16_000, 4000)]
            loaded.model(**inputs_of(loaded, clips)).logits.sum().backward()
            named = dict(loaded.model.named_parameters())
            assert not [name for name in named if not name.startswith("encoder.") and named[name].grad is None]
            assert torch.equal(named["classifier.weight"], trained.model.classifier.weight) == (own == head)
        with pytest.raises(ValueError, match="head='batchnorm': expected linear, stock or conv for ser"):
            load_model(str(tmp_path / "conv"), FOUR, head="batchnorm")

    def test_what_cannot_be_loaded_is_refused(self, tiny_hubert: Path, tmp_path: Path) -> None:
        ASTConfig().save_pretrained(tmp_path)
        for checkpoint, head, message in (
            (str(tmp_path), "stock", "found 'audio-spectrogram-transformer', expected one of hubert"),
            ("nobody/nothing", "stock", "model='nobody/nothing': expected a folder"),
            (str(tiny_hubert), "big", "head='big': expected one of linear, stock, batchnorm"),
        ):
            with pytest.raises(ValueError, match=message):
                load_model(checkpoint, FOUR, head=head)


def inputs_of(loaded: Loaded, waveforms: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """A model's inputs for clips, as training has them."""
    items = [{"waveform": waveform, "labels": np.zeros(1, np.float32), "clip": 0} for waveform in waveforms]
    batch = SpeechCollator(loaded.feature_extractor, minimum_samples_in_training(loaded.model.config))(items)
    return {name: values for name, values in batch.items() if name not in ("labels", "clip")}


def in_training(loaded: Loaded, seed: int) -> torch.Tensor:
    """The logits of two clips in training mode. `seed` is SpecAugment's; dropout is the same whatever it is."""
    inputs = inputs_of(loaded, [np.sin(np.arange(n) / 7).astype(np.float32) for n in (16_000, 4000)])
    set_seed(seed)  # transformers draws the masks with numpy
    torch.manual_seed(0)
    with torch.no_grad():
        return loaded.model.train()(**inputs).logits


@pytest.mark.parametrize(
    ("encoder", "head"),
    [("tiny_hubert", "stock"), ("tiny_data2vec", "conv"), ("tiny_wav2vec2_bert", "stock"), ("tiny_whisper", "conv")],
)
def test_spec_augment_is_off_whatever_the_checkpoint_says_or_masks_as_asked_in_training_alone(
    encoder: str, head: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Trap: the checkpoint's own SpecAugment acts under some methods and not under others."""
    folder = str(shutil.copytree(request.getfixturevalue(encoder), tmp_path / "encoder"))
    config = json.loads((tmp_path / "encoder/config.json").read_text())
    config |= {"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_feature_prob": 0.5}
    (tmp_path / "encoder/config.json").write_text(json.dumps(config))
    loaded = load_model(folder, FOUR, head=head)
    assert torch.equal(in_training(loaded, 0), in_training(loaded, 1))

    loaded = load_model(folder, FOUR, head=head, mask_time_prob=0.3)
    config = loaded.model.base_model.config
    assert (config.mask_time_prob, config.mask_feature_prob) == (0.3, 0.0)
    assert not torch.equal(in_training(loaded, 0), in_training(loaded, 1))
    loaded.model.eval()
    loaded.model.train = lambda: loaded.model
    assert torch.equal(in_training(loaded, 0), in_training(loaded, 1))


class TestPadding:
    """Trap: layer-norm encoders need the mask; the output of stock group-norm ones depends on padding."""

    @pytest.mark.parametrize(
        ("family", "norm"),
        [("data2vec", ""), ("wav2vec2bert", ""), *product(("hubert", "wav2vec2", "wavlm"), ("layer", "group"))],
    )
    def test_the_logits_of_a_clip_in_a_batch_are_those_of_plain_transformers_for_the_clip_alone(
        self, family: str, norm: str, encoders: Callable[[str, str], Path], tmp_path: Path
    ) -> None:
        rng = np.random.default_rng(0)
        waveforms = [rng.standard_normal(n).astype(np.float32) for n in (6000, 16_000, 731, 9043)]
        loaded = load_model(str(encoders(family, norm)), FOUR)
        loaded.model.save_pretrained(tmp_path)
        plain = AutoModelForAudioClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
        with torch.no_grad():
            together = loaded.model.eval()(**inputs_of(loaded, waveforms)).logits
            for i, waveform in enumerate(waveforms):
                inputs = loaded.feature_extractor([waveform], sampling_rate=16_000, return_tensors="pt")
                torch.testing.assert_close(together[i : i + 1], plain(**inputs).logits, atol=1e-4, rtol=0)
            if family == "data2vec":  # or else there would be nothing to change
                inputs = loaded.feature_extractor(waveforms, sampling_rate=16_000, padding=True, return_tensors="pt")
                assert not torch.allclose(plain(**inputs).logits, together, atol=1e-4)

    @pytest.mark.parametrize("head", ["stock", "conv"])
    def test_the_embedding_of_masked_frames_may_be_new(self, tiny_data2vec: Path, head: str) -> None:
        """A checkpoint that never masked has none; it is for training alone."""
        loaded = load_model(str(tiny_data2vec), FOUR, head=head, mask_time_prob=0.2)
        assert [name for name in loaded.new if name.endswith(".masked_spec_embed")]
        assert not hasattr(load_model(str(tiny_data2vec), FOUR, head=head).model.base_model, "masked_spec_embed")

    def test_a_gpu_takes_the_clips_of_a_batch_at_once(
        self, group_norm_hubert: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a compiler does; on a CPU they go one by one through the fused kernel."""
        model = load_model(str(group_norm_hubert), FOUR).model.eval()
        mask = (torch.arange(16_000) < torch.tensor([16_000, 9000, 500])[:, None]).long()
        waveforms = torch.randn(3, 16_000) * mask

        def gradients() -> tuple[torch.Tensor | None, ...]:
            total = model(waveforms, attention_mask=mask).logits.sum()
            return torch.autograd.grad(total, model.parameters(), allow_unused=True)

        expected = gradients()
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        for one, other in zip(gradients(), expected, strict=True):
            if other is not None:
                torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)

    def test_gradients_of_a_padded_batch_are_the_clips_own(self, tmp_path: Path) -> None:
        """Through the norm over valid frames, with gradient checkpointing, too."""
        folder = make_hubert(tmp_path / "steady", "group", dropout=False)
        rng = np.random.default_rng(2)
        waveforms = [rng.standard_normal(n).astype(np.float32) for n in (3000, 9000)]
        found = []
        for checkpointing, batches in ((False, [[0], [1]]), (False, [[0, 1]]), (True, [[0, 1]])):
            torch.manual_seed(0)
            loaded = load_model(str(folder), FOUR)
            if checkpointing:
                loaded.model.gradient_checkpointing_enable({"use_reentrant": False})
            for rows in batches:
                logits = loaded.model.train()(**inputs_of(loaded, [waveforms[i] for i in rows])).logits
                torch.nn.functional.cross_entropy(logits, torch.tensor(rows), reduction="sum").backward()
            found.append({name: p.grad for name, p in loaded.model.named_parameters() if p.grad is not None})
        for other in found[1:]:
            assert other.keys() == found[0].keys()
            for name, gradient in found[0].items():
                torch.testing.assert_close(other[name], gradient, atol=1e-4, rtol=1e-3, msg=name)


class TestBatchNormHead:
    @pytest.fixture
    def trained(self, tiny_hubert: Path) -> torch.nn.Module:
        torch.manual_seed(1)
        model = load_model(str(tiny_hubert), FOUR, head="batchnorm").model
        norm = model.classifier.batch_norm
        with torch.no_grad():
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.01, 2)
            norm.weight.normal_()
            norm.bias.normal_()
        return model.eval()

    def test_it_opens_as_a_stock_checkpoint_with_the_same_logits(
        self, trained: torch.nn.Module, tmp_path: Path
    ) -> None:
        values = torch.randn(3, 8000)
        with torch.no_grad():
            before = trained(values).logits
            fold_training_layers(trained).save_pretrained(tmp_path)
            stock = AutoModelForAudioClassification.from_pretrained(tmp_path)
            torch.testing.assert_close(stock(values).logits, before, atol=1e-5, rtol=1e-5)
        assert type(stock.classifier) is torch.nn.Linear

    def test_it_normalises_in_training_and_takes_a_single_clip(self) -> None:
        head = BatchNormClassifier(torch.nn.Linear(6, 3), dropout=0.0).train()
        head(5 + 3 * torch.randn(400, 6))
        assert head.batch_norm.running_mean.mean() == pytest.approx(0.5, abs=0.1)
        mean = head.batch_norm.running_mean.clone()
        assert torch.isfinite(head(torch.randn(1, 6))).all()
        assert torch.equal(mean, head.batch_norm.running_mean)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [StandardisedLinear, partial(BatchNormClassifier, dropout=0.0)])
def test_a_head_takes_weights_in_16_bits_beside_statistics_in_float32(
    make: Callable[..., torch.nn.Module], training: bool
) -> None:
    """As FSDP has them."""
    head = make(torch.nn.Linear(24, 4)).train(training)
    for buffer in head.buffers():
        buffer.copy_(0.5 + torch.rand(buffer.shape))
    inputs = torch.randn(16, 24)
    expected = head(inputs)
    for parameter in head.parameters():
        parameter.data = parameter.data.bfloat16()
    torch.testing.assert_close(head(inputs.bfloat16()), expected.bfloat16(), atol=0.05, rtol=0.05)


def test_who_starts_together_makes_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path))
    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(resolve_checkpoint, ["hubert-tiny-random"] * 4))) == 1


@pytest.mark.parametrize("family", ["wavlm", "unispeech-sat", "hubert"])
def test_new_weights_of_the_layers_are_all_alike(family: str, tmp_path: Path) -> None:
    folder = make_hubert(tmp_path / "encoder", family=family)
    weights = load_model(str(folder), ["a", "b"], weighted_layer_sum=True).model.layer_weights
    torch.testing.assert_close(weights.detach(), torch.full((3,), 1 / 3))
