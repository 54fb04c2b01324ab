"""Any method on any encoder: what trains, what does not, and what is saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_hubert
from transformers import AutoModelForAudioClassification
from tuned_models import TunedModel

from hf_ser.modeling import fold_training_layers
from hf_ser.tuning import METHODS

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
    tiny_data2vec: Path, tiny_wav2vec2_bert: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A tiny random encoder of each family, group norm and layer norm."""
    root = tmp_path_factory.mktemp("encoders")
    made = {"data2vec-audio": tiny_data2vec, "wav2vec2-bert": tiny_wav2vec2_bert, "whisper": tiny_whisper}
    for name in set(ENCODERS) - set(made):
        norm = "layer" if name.endswith("-layer") else "group"
        made[name] = make_hubert(root / name, norm, name.removesuffix("-layer"))
    return made


@pytest.mark.parametrize(("encoder", "method", "head"), PAIRS)
def test_what_shall_train_trains_and_what_is_saved_is_what_was_trained(
    encoders: dict[str, Path], encoder: str, method: str, head: str, tmp_path: Path
) -> None:
    tuned = TunedModel(encoders[encoder], method, head)
    assert tuned.train() == tuned.trainable
    names = {name.removeprefix("base_model.model.") for name in tuned.trainable}
    in_encoder = {name for name in names if name.startswith(tuned.loaded.model.base_model_prefix + ".")}
    if method == "full":
        assert len(in_encoder) > 20
    elif method in ("frozen", "lora_classifier"):
        assert not in_encoder
    else:
        kinds = {"lora": "lora_", "ia3": "ia3_l", "prompt": "prompt_"}
        added = {kinds.get(name.partition("_")[0], "bottleneck_") for name in method.split("+")}
        assert added == {kind for kind in added if any(kind in name for name in in_encoder)}
        assert all(any(kind in name for kind in added) for name in in_encoder)
    averaged = head == "conv" or (head == "linear" and encoder != "whisper")
    assert ("layer_weights" in names) is (averaged and "lora_classifier" not in method)

    expected = tuned.logits()
    if hasattr(tuned.model, "peft_config"):
        tuned.save(tmp_path)
    else:
        fold_training_layers(tuned.model).save_pretrained(tmp_path)
        tuned.loaded.feature_extractor.save_pretrained(tmp_path)
    torch.testing.assert_close(tuned.opened_logits(tmp_path), expected, atol=1e-5, rtol=0)
    if all(name.startswith("lora") for name in method.split("+")):
        merged = tuned.model.merge_and_unload()
        torch.testing.assert_close(tuned.logits(merged), expected, atol=1e-5, rtol=0)
        merged.save_pretrained(tmp_path / "merged")
        again = AutoModelForAudioClassification.from_pretrained(tmp_path / "merged", dtype=torch.float32)
        # The output of stock group-norm encoders depends on padding.
        if encoder in ("hubert-layer", "whisper") or head == "conv":
            torch.testing.assert_close(tuned.logits(again), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", ["stock", "conv"])
def test_an_encoder_without_convolutions_in_front_has_none_to_freeze(head: str, tiny_wav2vec2_bert: Path) -> None:
    model = TunedModel(tiny_wav2vec2_bert, "full", head, freeze_feature_encoder=True).model
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
    tuned = TunedModel(encoders[encoder], method, "conv", peft_arguments=arguments)
    assert tuned.train(steps=4) == tuned.trainable
    assert tuned.tuned.keeps_base
    expected = tuned.logits()
    tuned.save(tmp_path)
    torch.testing.assert_close(tuned.opened_logits(tmp_path), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(tuned.logits(tuned.model.merge_and_unload()), expected, atol=1e-4, rtol=0)


def test_pissa_takes_its_first_weights_out_of_the_encoder(tiny_hubert: Path) -> None:
    arguments = {"init_lora_weights": "pissa"}
    assert not TunedModel(tiny_hubert, "lora_ff", peft_arguments=arguments).tuned.keeps_base


@pytest.mark.parametrize(
    ("method", "head", "arguments", "message"),
    [
        ("prefix_tuning", "stock", None, "expected a tuner that fits an encoder of speech"),
        ("lora_ff", "stock", {"rank": 3}, "method='lora_ff': .*unexpected keyword argument 'rank'"),
        ("frozen", "stock", {"r": 3}, "peft_arguments with method='frozen': expected a method of PEFT"),
        (
            "lora_ff+lora_qkv",
            "stock",
            {"lora_ff": {"r": 3}},
            "is one LoraConfig, and needs the same arguments for each",
        ),
        ("adapter+bottleneck", "stock", {}, "is one BottleneckConfig, and needs the same arguments for each"),
        ("adapter+prompt", "stock", {"prompt": {"prompt_length": 0}}, "prompt_length=0: expected 1 or more"),
        ("adapter+lora_classifier", "batchnorm", None, "head='batchnorm': expected stock or conv"),
    ],
)
def test_what_does_not_fit_is_refused(tiny_hubert: Path, method: str, head: str, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TunedModel(tiny_hubert, method, head, peft_arguments=arguments)


def test_arguments_of_combined_methods_are_given_by_their_names(tiny_hubert: Path) -> None:
    arguments = {"lora_ff": {"r": 3, "use_dora": True}, "adapter": {"non_linearity": "gelu"}}
    model = TunedModel(tiny_hubert, "adapter+lora_ff", "conv", bottleneck_size=5, peft_arguments=arguments).model
    adapter, lora = sorted(model.peft_config["default"].parts, key=lambda part: part["peft_type"])
    assert (adapter["bottleneck_size"], adapter["non_linearity"], lora["r"], lora["use_dora"]) == (5, "gelu", 3, True)
