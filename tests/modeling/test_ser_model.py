import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import hubert_config
from transformers import (
    AutoConfig,
    AutoModel,
    HubertForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
    WavLMForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
    WhisperModel,
    pipeline,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_ser import modeling
from hf_ser.modeling import SERFeatureExtractor, SERForAudioClassification, SERModelConfig

FOUR = ("angry", "happy", "neutral", "sad")
WAVEFORM = [f"{family}-{norm}" for family in ("hubert", "wav2vec2", "wavlm") for norm in ("layer", "group")]
ALL = [*WAVEFORM, "whisper"]
#: Each family, and each norm.
SOME = ["hubert-group", "wav2vec2-layer", "wavlm-group", "whisper"]
NO_DROPOUT = dict.fromkeys(
    ("dropout", "hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0
)


def encoder_config(kind: str, **changes: object) -> PretrainedConfig:
    """Of a tiny encoder: "whisper", or a family and its norm as in "hubert-group"."""
    if kind == "whisper":
        sizes = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 37}
        decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "vocab_size": 60}
        tokens = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
        return WhisperConfig(**{**sizes, **decoder, **tokens, **changes})
    family, norm = kind.split("-")
    return hubert_config(norm, family, **changes)


def classifier_config(encoder: PretrainedConfig | dict | None, **changes: object) -> SERModelConfig:
    labels = {"id2label": dict(enumerate(FOUR)), "label2id": {emotion: i for i, emotion in enumerate(FOUR)}}
    return SERModelConfig(encoder=encoder, **{**labels, **changes})


def tiny(kind: str, **changes: object) -> SERForAudioClassification:
    torch.manual_seed(0)
    return SERForAudioClassification(classifier_config(encoder_config(kind), **changes)).eval()


def extractor(kind: str) -> WhisperFeatureExtractor | Wav2Vec2FeatureExtractor:
    if kind == "whisper":
        return SERFeatureExtractor()
    return Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)


def noise(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(length).astype(np.float32) for length in lengths]


def batch(kind: str, clips: list[np.ndarray], **padding: object) -> dict[str, torch.Tensor]:
    padding = padding or {"padding": "longest"}
    return dict(extractor(kind)(clips, sampling_rate=16_000, return_tensors="pt", **padding))


def paper_head(model: SERForAudioClassification, layers: list[torch.Tensor]) -> torch.Tensor:
    """PEFT-SER, section III, of one clip: the layers' outputs `(frames, hidden)` to the logits."""
    shares = model.layer_weights.exp() / model.layer_weights.exp().sum()
    frames = torch.stack([share * layer for share, layer in zip(shares, layers, strict=True)]).sum(0)
    first, second, third = (model.projector[i] for i in (0, 3, 6))
    frames = (frames @ first.weight[:, :, 0].T + first.bias).clamp(min=0)
    frames = (frames @ second.weight[:, :, 0].T + second.bias).clamp(min=0)
    frames = frames @ third.weight[:, :, 0].T + third.bias
    pooled = (frames.mean(0) @ model.hidden.weight.T + model.hidden.bias).clamp(min=0)
    return pooled @ model.classifier.weight.T + model.classifier.bias


class TestHead:
    @pytest.mark.parametrize(
        ("hidden", "layers", "expected"), [(768, 12, 395_280), (512, 8, 329_740), (384, 4, 296_968)]
    )
    def test_it_has_the_papers_parameters(self, hidden: int, layers: int, expected: int) -> None:
        """Table IV: 0.4 M, 0.33 M and 0.3 M."""
        encoder = encoder_config(
            "hubert-group", hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=8, intermediate_size=1
        )
        with torch.device("meta"):
            model = SERForAudioClassification(classifier_config(encoder))
        assert sum(p.numel() for name, p in model.named_parameters() if not name.startswith("encoder.")) == expected

    @pytest.mark.parametrize("kind", SOME)
    def test_it_is_the_papers(self, kind: str) -> None:
        model = tiny(kind)
        torch.nn.init.normal_(model.layer_weights)
        inputs = batch(kind, noise(7000))
        with torch.no_grad():
            output = model(**inputs, output_hidden_states=True)
            outputs = model.encoder(inputs[model.main_input_name], attention_mask=inputs["attention_mask"])
            layers = [hidden[0] for hidden in output.hidden_states[1:-1]] + [outputs.last_hidden_state[0]]
            torch.testing.assert_close(output.logits[0], paper_head(model, layers), atol=1e-6, rtol=1e-5)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_the_stock_one_is_that_of_transformers(self, weighted: bool, tmp_path: Path) -> None:
        torch.manual_seed(0)
        encoder = encoder_config("hubert-group", use_weighted_layer_sum=weighted, classifier_proj_size=24)
        stock = HubertForSequenceClassification(encoder)
        stock.config.id2label = dict(enumerate(FOUR))
        stock.classifier = torch.nn.Linear(24, 4)
        stock.save_pretrained(tmp_path)
        config = classifier_config(
            encoder_config("hubert-group"), head="stock", classifier_proj_size=24, use_weighted_layer_sum=weighted
        )
        model, new = SERForAudioClassification.from_encoder(tmp_path, config)
        assert [name for name in new if "layer_weights" in name] == ["layer_weights"] * weighted
        heads = {name: tensor for name, tensor in stock.state_dict().items() if not name.startswith("hubert.")}
        assert model.load_state_dict(heads, strict=False).unexpected_keys == []
        values = torch.randn(2, 6000)
        with torch.no_grad():
            expected = stock.eval()(values).logits
            torch.testing.assert_close(model.eval()(values).logits, expected, atol=1e-6, rtol=1e-5)


class TestPadding:
    """Trap: the output of stock encoders of the group-norm kind, and of Whisper, depends on padding."""

    @pytest.mark.parametrize(
        ("kind", "head"), [*((kind, "conv") for kind in ALL), ("hubert-group", "stock"), ("whisper", "stock")]
    )
    def test_the_output_for_a_clip_is_the_same_alone_and_in_a_batch(self, kind: str, head: str) -> None:
        model = tiny(kind, head=head)
        clips = noise(6000, 16_000, 431, 9007)
        with torch.no_grad():
            together = model(**batch(kind, clips, padding="max_length", max_length=20_000)).logits
            for i, clip in enumerate(clips):
                alone = model(**batch(kind, [clip])).logits
                torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("kind", SOME)
    def test_valid_frames_are_what_leaves_the_encoder(self, kind: str) -> None:
        model = tiny(kind)
        clips = noise(4000, 5000, 481)
        mask = batch(kind, clips)["attention_mask"]
        alone = [model.encoder(batch(kind, [clip])[model.main_input_name]).last_hidden_state.shape[1] for clip in clips]
        assert model.valid_frames(mask).tolist() == alone

    @pytest.mark.parametrize("kind", ["hubert-group", "wav2vec2-layer"])
    def test_so_it_is_for_a_clip_too_short_for_a_frame(self, kind: str) -> None:
        model = tiny(kind)
        clips = noise(100, 8000)
        with torch.no_grad():
            alone = model(**batch(kind, clips[:1], padding="max_length", max_length=400)).logits
            together = model(**batch(kind, clips)).logits[:1]
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)

    def test_weights_in_16_bits_give_outputs_in_16_bits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As with FSDP on GPUs, which compute a group norm like a traced model."""
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        model = tiny("hubert-group")
        inputs = batch("hubert-group", noise(6000, 9007))
        with torch.no_grad():
            expected = model(**inputs).logits
            inputs["input_values"] = inputs["input_values"].bfloat16()
            torch.testing.assert_close(model.bfloat16()(**inputs).logits.float(), expected, atol=0.05, rtol=0.05)


class TestTraining:
    @pytest.mark.parametrize("kind", SOME)
    def test_every_parameter_learns_with_and_without_checkpointing(self, kind: str) -> None:
        found = []
        for checkpointing in (False, True):
            torch.manual_seed(0)
            encoder = encoder_config(kind, **NO_DROPOUT)
            model = SERForAudioClassification(classifier_config(encoder, head_dropout=0.0)).train()
            if checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            model(**batch(kind, noise(6000, 9000)), labels=torch.tensor([1, 2])).loss.backward()
            found.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
        for name, gradient in found[0].items():
            # No frame is masked, so that the mask's embedding has nothing to learn.
            assert name.endswith("masked_spec_embed") == (gradient is None), name
            if gradient is not None:
                torch.testing.assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)

    def test_clips_with_label_minus_100_do_not_count(self) -> None:
        model = tiny("hubert-layer")
        values = torch.randn(3, 4000)
        both = model(values, labels=torch.tensor([1, -100, 3])).loss
        torch.testing.assert_close(both, model(values[[0, 2]], labels=torch.tensor([1, 3])).loss)

    @pytest.mark.parametrize(
        ("kind", "front"),
        [("hubert-group", ["feature_extractor."]), ("whisper", ["conv1.", "conv2.", "embed_positions."])],
    )
    def test_the_convolutional_front_can_be_frozen(self, kind: str, front: list[str]) -> None:
        model = tiny(kind)
        model.freeze_feature_encoder()
        for name, p in model.named_parameters():
            assert p.requires_grad != name.startswith(tuple(f"encoder.{prefix}" for prefix in front)), name
        model.train()(**batch(kind, noise(4000)), labels=torch.tensor([1])).loss.backward()

    @pytest.mark.parametrize("kind", SOME)
    def test_attention_and_hidden_states_are_given_when_asked_for(self, kind: str) -> None:
        model = tiny(kind)
        model.set_attn_implementation("eager")
        output = model(**batch(kind, noise(4000)), output_attentions=True, output_hidden_states=True)
        assert (len(output.hidden_states), len(output.attentions)) == (3, 2)
        plain = model(**batch(kind, noise(4000)))
        assert (plain.hidden_states, plain.attentions) == (None, None)
        torch.testing.assert_close(plain.logits, output.logits, atol=1e-6, rtol=0)
        as_tuple = model(**batch(kind, noise(4000)), labels=torch.tensor([0]), return_dict=False)
        torch.testing.assert_close(as_tuple[1], plain.logits)


class TestFromEncoder:
    @pytest.mark.parametrize("kind", SOME)
    def test_the_encoder_is_the_checkpoints_in_float32(self, kind: str, tmp_path: Path) -> None:
        """Trap: transformers 5 loads weights in the type they were stored in."""
        torch.manual_seed(1)
        encoder = AutoModel.from_config(encoder_config(kind)).half()
        encoder.save_pretrained(tmp_path)
        model, new = SERForAudioClassification.from_encoder(
            tmp_path, classifier_config(AutoConfig.from_pretrained(tmp_path))
        )
        source = encoder.encoder if kind == "whisper" else encoder
        state = model.encoder.state_dict()
        assert state.keys() == source.state_dict().keys()
        for name, tensor in source.state_dict().items():
            assert torch.equal(state[name], tensor.float()), name
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert model.config.encoder is model.encoder.config
        assert sorted(new) == sorted(name for name in model.state_dict() if not name.startswith("encoder."))
        assert model.name_or_path == str(tmp_path)

    @pytest.mark.parametrize(
        ("kind", "whole"),
        [
            ("hubert-group", HubertForSequenceClassification),
            ("wavlm-layer", WavLMForCTC),
            ("whisper", WhisperForConditionalGeneration),
            ("whisper", WhisperForAudioClassification),
            ("whisper", WhisperModel),
        ],
    )
    def test_it_is_found_in_a_whole_model(self, kind: str, whole: type[PreTrainedModel], tmp_path: Path) -> None:
        torch.manual_seed(1)
        model = whole(encoder_config(kind))
        model.save_pretrained(tmp_path)
        ours, _ = SERForAudioClassification.from_encoder(tmp_path, classifier_config(encoder_config(kind)))
        expected = {key.split("encoder.", 1)[1] if kind == "whisper" else key.split(".", 1)[1]: tensor
                    for key, tensor in model.state_dict().items()
                    if key.startswith(("hubert.", "wavlm.", "encoder.", "model.encoder."))}  # fmt: skip
        assert expected
        for name, tensor in ours.encoder.state_dict().items():
            assert torch.equal(tensor, expected[name]), name

    @pytest.mark.parametrize(
        ("kind", "change", "message"),
        [
            ("hubert-layer", {"num_hidden_layers": 3}, r"16 weights of the encoder .* for instance .*layers\.2\."),
            ("whisper", {"encoder_layers": 3}, r"15 weights of the encoder .* for instance .*layers\.2\."),
            ("wavlm-group", {"intermediate_size": 38}, r"or in another shape, for instance .*feed_forward"),
        ],
    )
    def test_a_checkpoint_that_lacks_weights_or_has_them_in_another_shape_is_refused(
        self, kind: str, change: dict[str, int], message: str, tmp_path: Path
    ) -> None:
        AutoModel.from_config(encoder_config(kind)).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=message):
            SERForAudioClassification.from_encoder(tmp_path, classifier_config(encoder_config(kind, **change)))


class TestFeatures:
    @pytest.mark.parametrize("samples", [1, 159, 160, 161, 399, 400, 8000, 16_001, 479_959, 479_960])
    def test_they_are_the_stock_extractors_frames(self, samples: int) -> None:
        clip = noise(samples)[0] * np.linspace(0.1, 1, samples, dtype=np.float32)  # loudest where it is cut off
        ours = SERFeatureExtractor()(clip, sampling_rate=16_000, return_tensors="np")["input_features"]
        stock = WhisperFeatureExtractor()(clip, sampling_rate=16_000, return_attention_mask=True, return_tensors="np")
        assert ours.shape == (1, 80, int(stock["attention_mask"].sum()))
        np.testing.assert_allclose(ours, stock["input_features"][..., : ours.shape[-1]], atol=1e-5)

    def test_those_of_a_clip_do_not_depend_on_the_batch(self) -> None:
        clips = noise(5000, 12_345, 700)
        extract = SERFeatureExtractor()
        together = extract([clip * (1 + i) for i, clip in enumerate(clips)], sampling_rate=16_000, return_tensors="np")
        assert together["attention_mask"].sum(-1).tolist() == [32, 78, 5]
        for i, clip in enumerate(clips):
            alone = extract(clip * (1 + i), sampling_rate=16_000, return_tensors="np")["input_features"][0]
            features = together["input_features"][i]
            np.testing.assert_array_equal(features[:, : alone.shape[-1]], alone)
            assert not features[:, alone.shape[-1] :].any()

    def test_padding_to_a_length(self) -> None:
        extract = SERFeatureExtractor()
        clips = noise(5000, 9000)
        for options, frames in (
            ({"padding": "max_length"}, 3000),
            ({"padding": "max_length", "max_length": 16_000}, 100),
            ({"padding": "max_length", "max_length": 400}, 57),
            ({"pad_to_multiple_of": 64}, 64),
            ({"truncation": True, "max_length": 3200}, 20),
        ):
            features = extract(clips, sampling_rate=16_000, return_tensors="pt", **options)
            assert features["input_features"].shape == (2, 80, frames), options

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"raw_speech": np.zeros(400), "sampling_rate": 8000}, "sampling_rate=8000: expected 16000 Hz"),
            ({"raw_speech": np.zeros(0)}, r"a clip of shape \(0,\)"),
            ({"raw_speech": np.zeros((1, 2, 400))}, r"a clip of shape \(2, 400\)"),
            (
                {"raw_speech": np.zeros(400), "padding": "do_not_pad"},
                "padding='do_not_pad': expected longest or max_length",
            ),
        ],
    )
    def test_what_it_refuses(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            SERFeatureExtractor()(**arguments)


class TestWhisper:
    def test_of_30_s_the_output_is_that_of_the_stock_encoder(self) -> None:
        model = tiny("whisper")
        stock = WhisperEncoder(encoder_config("whisper")).eval()
        stock.load_state_dict(model.encoder.state_dict())
        features = torch.randn(1, 80, 3000)
        with torch.no_grad():
            expected = stock(features, output_hidden_states=True)
            found = model.encoder(features, output_hidden_states=True)
        torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=0)
        for ours, theirs in zip(found.hidden_states, expected.hidden_states, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)

    def test_a_longer_clip_is_refused(self) -> None:
        inputs = batch("whisper", noise(496_000))
        with pytest.raises(ValueError, match="found a clip of 31 s, expected at most 30 s.*segment_length=30"):
            tiny("whisper")(**inputs)


class TestConfig:
    @pytest.mark.parametrize("kind", SOME)
    def test_it_comes_back_as_it_was_saved(self, kind: str, tmp_path: Path) -> None:
        config = classifier_config(encoder_config(kind), head="stock", conv_size=128, use_weighted_layer_sum=True)
        config.save_pretrained(tmp_path)
        found = AutoConfig.from_pretrained(tmp_path)
        assert type(found) is SERModelConfig
        assert type(found.encoder) is type(config.encoder)
        place = {
            "_name_or_path": str(tmp_path),
            "auto_map": {"AutoConfig": "configuration_ser.SERModelConfig"},
        }
        assert found.to_dict() == {**config.to_dict(), **place}
        assert found.id2label == dict(enumerate(FOUR))
        assert (found.hidden_size, found.num_hidden_layers) == (32, 2)

    def test_it_holds_neither_the_encoders_place_nor_its_old_labels(self, tmp_path: Path) -> None:
        encoder = encoder_config("hubert-layer", id2label={0: "yes", 1: "no", 2: "perhaps"})
        AutoModel.from_config(encoder).save_pretrained(tmp_path / "here")
        config = classifier_config(AutoConfig.from_pretrained(tmp_path / "here"))
        SERForAudioClassification.from_encoder(tmp_path / "here", config)[0].save_pretrained(tmp_path / "model")
        text = (tmp_path / "model/config.json").read_text()
        assert "perhaps" not in text
        assert str(tmp_path) not in text
        assert json.loads(text)["encoder"]["model_type"] == "hubert"


OPEN = """
import json, sys
import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

for parent in sys.argv[1:]:
    folder, clip, again = f"{parent}/model", np.load(f"{parent}/clip.npy"), f"{parent}/again"
    refused = []
    for opening in (AutoModelForAudioClassification.from_pretrained, lambda name: pipeline("audio-classification", model=name)):
        try:
            opening(folder)
        except ValueError as error:
            refused.append(str(error))
    model = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True)
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        logits = model(**extractor(clip, sampling_rate=16_000, return_tensors="pt")).logits[0].tolist()
    classifier = pipeline("audio-classification", model=folder, trust_remote_code=True)
    answers = classifier({"array": clip, "sampling_rate": 16_000})
    model.save_pretrained(again)
    extractor.save_pretrained(again)
    print()
    print(json.dumps({"refused": refused, "logits": logits, "answers": {a["label"]: a["score"] for a in answers},
                      "package": "hf_ser" in sys.modules}))
"""
PUBLISHED = ("hubert-group", "wavlm-layer", "whisper")


@dataclass
class Published:
    """A model as it goes to the Hub, and what a new process that knows transformers alone makes of it."""

    folder: Path
    again: Path
    clip: np.ndarray
    logits: np.ndarray
    found: dict[str, Any]
    errors: str


@pytest.fixture(scope="module")
def all_published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    """One of each kind, all opened by one process: it takes seconds to start."""
    parent = tmp_path_factory.mktemp("published")
    clip = noise(7000)[0]
    logits = {}
    for kind in PUBLISHED:
        model = tiny(kind)
        model.save_pretrained(parent / kind / "model")
        extractor(kind).save_pretrained(parent / kind / "model")
        np.save(parent / kind / "clip.npy", clip)
        with torch.no_grad():
            logits[kind] = model(**batch(kind, [clip])).logits[0].numpy()
    environment = {**os.environ, "HF_HOME": str(parent / "home"), "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, *(str(parent / kind) for kind in PUBLISHED)],
        cwd=parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"refused"')]
    return {
        kind: Published(parent / kind / "model", parent / kind / "again", clip, logits[kind], answer, done.stderr)
        for kind, answer in zip(PUBLISHED, found, strict=True)
    }


@pytest.fixture(params=PUBLISHED)
def published(request: pytest.FixtureRequest, all_published: dict[str, Published]) -> Published:
    return all_published[request.param]


class TestPublished:
    def test_it_opens_in_plain_transformers(self, published: Published) -> None:
        assert not published.found["package"]
        np.testing.assert_allclose(published.found["logits"], published.logits, atol=1e-5)
        shares = np.exp(published.logits) / np.exp(published.logits).sum()
        assert published.found["answers"] == pytest.approx(dict(zip(FOUR, shares.tolist(), strict=True)), abs=1e-5)
        assert "is not supported" not in published.errors

    def test_nothing_opens_without_trust(self, published: Published) -> None:
        """Never with a random head."""
        assert len(published.found["refused"]) == 2
        assert all("`trust_remote_code=True`" in message for message in published.found["refused"])

    def test_it_opens_here_without_trust(self, published: Published) -> None:
        classifier = pipeline("audio-classification", model=str(published.folder))
        assert type(classifier.model) is SERForAudioClassification
        inputs = classifier.feature_extractor(published.clip, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            np.testing.assert_allclose(classifier.model(**inputs).logits[0], published.logits, atol=1e-5)

    def test_saved_again_it_brings_its_code_along(self, published: Published) -> None:
        files = {path.name for path in published.folder.iterdir()}
        assert {"configuration_ser.py", "encoders_ser.py", "modeling_ser.py"} <= files
        assert {path.name for path in published.again.iterdir()} == files
        for name in files - {"model.safetensors"}:
            assert (published.again / name).read_text() == (published.folder / name).read_text(), name


@pytest.mark.parametrize("path", sorted(Path(modeling.__file__).parent.glob("*_ser.py")), ids=lambda path: path.name)
def test_code_that_is_pushed_needs_nothing_of_the_package(path: Path) -> None:
    allowed = {"collections", "contextlib", "numpy", "os", "torch", "transformers", "typing"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module.split(".")[0] in allowed
