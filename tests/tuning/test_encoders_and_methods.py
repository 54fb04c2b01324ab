"""Any method on any encoder: what trains, what does not, and what is saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForAudioClassification

import hf_ser
from hf_ser.features import SpeechCollator
from hf_ser.modeling import fold_training_layers, load_model
from hf_ser.modeling.families import minimum_samples
from hf_ser.tuning import METHODS, Tuned, Tuning, fold_head, frozen_modules, save_adapter, tune

FOUR = ("angry", "happy", "neutral", "sad")
ENCODERS = (
    "hubert",
    "hubert-layer",
    "wav2vec2",
    "wavlm",
    "whisper",
    "data2vec-audio",
    "unispeech-sat",
    "wav2vec2-bert",
)
HEADS = ("linear", "stock", "conv")
COMBINED = ("adapter+prompt+lora_ff", "lora_qkv+lora_ff", "lora_qkv+lora_classifier", "prompt+ia3")
#: Those of which the table of families says the same as of HuBERT, or nearly so.
ALIKE = ("wav2vec2", "data2vec-audio", "unispeech-sat")
#: Every method with every family and with every head, but not all three with each other; and each of HuBERT's norms with half.
PAIRS = [
    (encoder, method, HEADS[(i + j) % len(HEADS)])
    for i, encoder in enumerate(ENCODERS)
    for j, method in enumerate((*METHODS, *COMBINED))
    if method != "probe"  # it trains as "frozen" does
    and (encoder not in ALIKE or method in ("full", "lora_qkv", COMBINED[0]))
    and (not encoder.startswith("hubert") or j % 2 == i)
]


@pytest.fixture(scope="module")
def encoders(
    tiny_data2vec: Path,
    tiny_wav2vec2_bert: Path,
    tiny_whisper: Path,
    make_hubert: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A tiny random encoder of each family, group norm and layer norm."""
    root = tmp_path_factory.mktemp("encoders")
    made = {"data2vec-audio": tiny_data2vec, "wav2vec2-bert": tiny_wav2vec2_bert, "whisper": tiny_whisper}
    for name in set(ENCODERS) - set(made):
        norm = "layer" if name.endswith("-layer") else "group"
        made[name] = make_hubert(root / name, norm, name.removesuffix("-layer"))
    return made


def build(folder: Path, method: str, head: str) -> tuple[Tuned, SpeechCollator, Any]:
    torch.manual_seed(0)
    loaded = load_model(str(folder), FOUR, head=head)
    if head == "linear":  # as if a probe had been solved
        torch.nn.init.normal_(loaded.model.projector.linear.weight, std=0.1)
        loaded.model.projector.mean.normal_()
        loaded.model.projector.scale.uniform_(0.5, 2.0)
    tuned = tune(loaded, Tuning(method=method, lora_dropout=0.0))
    collator = SpeechCollator(loaded.feature_extractor, minimum_samples(loaded.model.config))
    return tuned, collator, loaded


def batch(collator: SpeechCollator) -> dict[str, torch.Tensor]:
    waves = [torch.sin(torch.arange(n) / (5 + n % 7)).numpy() for n in (9000, 6000, 12_000, 5000)]
    found = collator([{"waveform": wave, "labels": np.array(i), "clip": i} for i, wave in enumerate(waves)])
    return {name: value for name, value in found.items() if name != "clip"}


def save(tuned: Tuned, loaded: Any, folder: Path, base: Path) -> None:
    """An adapter's folder, as a run leaves it."""
    save_adapter(tuned.model, fold_head(tuned.model, tuned.new), folder, base=str(base))
    tuned.model.config.save_pretrained(folder)
    loaded.feature_extractor.save_pretrained(folder)


def logits(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**{name: value for name, value in inputs.items() if name != "labels"}).logits


def train_a_little(
    model: torch.nn.Module, inputs: dict[str, torch.Tensor], steps: int = 3
) -> tuple[set[str], set[str]]:
    """Which parameters moved, and which should have."""
    frozen = frozen_modules(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        model.train()
        for module in frozen:
            module.eval()
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    return moved, {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("encoder", "method", "head"), PAIRS)
def test_what_shall_train_trains_and_what_is_saved_is_what_was_trained(
    encoders: dict[str, Path], encoder: str, method: str, head: str, tmp_path: Path
) -> None:
    tuned, collator, loaded = build(encoders[encoder], method, head)
    inputs = batch(collator)
    moved, trainable = train_a_little(tuned.model, inputs)
    assert moved == trainable
    names = {name.removeprefix("base_model.model.") for name in trainable}
    in_encoder = {name for name in names if name.startswith(loaded.model.base_model_prefix + ".")}
    if method == "full":
        assert len(in_encoder) > 20
    elif method in ("frozen", "probe", "lora_classifier"):
        assert not in_encoder
    else:
        kinds = {"lora": "lora_", "ia3": "ia3_l", "prompt": "prompt_"}
        added = {kinds.get(name.partition("_")[0], "bottleneck_") for name in method.split("+")}
        assert added == {kind for kind in added if any(kind in name for name in in_encoder)}
        assert all(any(kind in name for kind in added) for name in in_encoder)
    averaged = head == "conv" or (head == "linear" and encoder != "whisper")
    assert ("layer_weights" in names) is (averaged and "lora_classifier" not in method)

    expected = logits(tuned.model, inputs)
    if hasattr(tuned.model, "peft_config"):
        save(tuned, loaded, tmp_path, encoders[encoder])
    else:
        fold_training_layers(tuned.model).save_pretrained(tmp_path)
        loaded.feature_extractor.save_pretrained(tmp_path)
    torch.manual_seed(7)  # nothing that is opened is random
    opened = hf_ser.pipeline(tmp_path).model
    torch.testing.assert_close(logits(opened, inputs), expected, atol=1e-5, rtol=0)
    if all(name.startswith("lora") for name in method.split("+")):
        merged = tuned.model.merge_and_unload()
        torch.testing.assert_close(logits(merged, inputs), expected, atol=1e-5, rtol=0)
        merged.save_pretrained(tmp_path / "merged")
        again = AutoModelForAudioClassification.from_pretrained(tmp_path / "merged", dtype=torch.float32)
        if (
            encoder in ("hubert-layer", "whisper") or head == "conv"
        ):  # the output of stock group-norm encoders depends on padding
            torch.testing.assert_close(logits(again, inputs), expected, atol=1e-5, rtol=0)


def test_an_encoder_without_convolutions_in_front_has_none_to_freeze(encoders: dict[str, Path]) -> None:
    for head in ("stock", "conv"):
        loaded = load_model(str(encoders["wav2vec2-bert"]), FOUR, head=head)
        model = tune(loaded, Tuning(method="full", freeze_feature_encoder=True)).model
        assert all(p.requires_grad for p in model.parameters())


OTHERS = {
    "dora": ("lora_ff", {"use_dora": True}),
    "rslora": ("lora_qkv", {"use_rslora": True}),
    "ia3": ("ia3", None),
    "ln_tuning": ("ln_tuning", None),
    "oft": ("oft", {"oft_block_size": 0, "r": 1}),
    "vera": ("vera", {"r": 4, "save_projection": True}),
    "loha": ("loha", {"r": 2}),
    "adalora": ("adalora", {"init_r": 3, "target_r": 2}),
}


@pytest.mark.parametrize(
    ("encoder", "name"),
    [(("wavlm", "whisper", "wav2vec2-bert", "hubert-layer")[i % 4], name) for i, name in enumerate(OTHERS)],
)
def test_other_tuners_of_peft_by_name_with_arguments_of_their_own(
    encoders: dict[str, Path], encoder: str, name: str, tmp_path: Path
) -> None:
    method, arguments = OTHERS[name]
    loaded = load_model(str(encoders[encoder]), FOUR, head="conv")
    tuned = tune(loaded, Tuning(method=method, lora_dropout=0.0, peft_arguments=arguments))
    inputs = batch(SpeechCollator(loaded.feature_extractor, minimum_samples(loaded.model.config)))
    moved, trainable = train_a_little(tuned.model, inputs, steps=4)
    assert moved == trainable
    assert tuned.keeps_base
    expected = logits(tuned.model, inputs)
    save(tuned, loaded, tmp_path, encoders[encoder])
    torch.manual_seed(7)
    torch.testing.assert_close(logits(hf_ser.pipeline(tmp_path).model, inputs), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits(tuned.model.merge_and_unload(), inputs), expected, atol=1e-4, rtol=0)


def test_pissa_takes_its_first_weights_out_of_the_encoder_and_is_merged(encoders: dict[str, Path]) -> None:
    loaded = load_model(str(encoders["hubert"]), FOUR)
    tuned = tune(loaded, Tuning(method="lora_ff", peft_arguments={"init_lora_weights": "pissa"}))
    assert not tuned.keeps_base


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("prefix_tuning", None, "expected a tuner that fits an encoder of speech"),
        ("lora_ff", {"rank": 3}, "method='lora_ff': .*unexpected keyword argument 'rank'"),
        ("frozen", {"r": 3}, "peft_arguments with method='frozen': expected a method of PEFT"),
        ("lora_ff+lora_qkv", {"lora_ff": {"r": 3}}, "is one LoRA, and needs the same arguments for each"),
        ("adapter+prompt", {"prompt": {"prompt_length": 0}}, "prompt_length=0: expected 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused(encoders: dict[str, Path], method: str, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune(load_model(str(encoders["hubert"]), FOUR), Tuning(method=method, peft_arguments=arguments))


def test_arguments_of_combined_methods_are_given_by_their_names(encoders: dict[str, Path]) -> None:
    arguments = {"lora_ff": {"r": 3, "use_dora": True}, "adapter": {"non_linearity": "gelu"}}
    loaded = load_model(str(encoders["hubert"]), FOUR, head="conv")
    tuned = tune(loaded, Tuning(method="adapter+lora_ff", bottleneck_size=5, peft_arguments=arguments))
    adapter, lora = sorted(tuned.model.peft_config["default"].parts, key=lambda part: part["peft_type"])
    assert (adapter["bottleneck_size"], adapter["non_linearity"], lora["r"], lora["use_dora"]) == (5, "gelu", 3, True)


def test_a_folded_head_under_combined_methods(encoders: dict[str, Path], tmp_path: Path) -> None:
    tuned, collator, loaded = build(encoders["hubert"], "adapter+lora_ff", "batchnorm")
    inputs = batch(collator)
    train_a_little(tuned.model, inputs)
    expected = logits(tuned.model, inputs)
    save(tuned, loaded, tmp_path, encoders["hubert"])
    torch.testing.assert_close(logits(hf_ser.pipeline(tmp_path).model, inputs), expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="head='batchnorm': expected stock or conv"):
        build(encoders["hubert"], "adapter+lora_classifier", "batchnorm")
