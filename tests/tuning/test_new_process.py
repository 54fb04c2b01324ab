"""Adapters of all kinds open with PEFT in a new process that has imported this package: one process, as it takes seconds to start."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModel, HubertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor

from hf_ser.models import load_model
from hf_ser.tuning import BottleneckConfig, CombinedConfig, DeepPromptConfig, Tuning, save_adapter, tune

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 24,
    "apply_spec_augment": False, "layerdrop": 0.0,
}  # fmt: skip
#: Opens what is in each folder, and compares its output with the one that is expected.
OPEN = """
import json, sys
import torch, transformers, hf_ser
from peft import PeftModel
for folder, (name, options) in json.loads(sys.argv[1]).items():
    base = getattr(transformers, name).from_pretrained(folder + "/base", dtype=torch.float32, **options)
    model = PeftModel.from_pretrained(base, folder + "/adapter").eval()
    with torch.no_grad():
        answer = model(torch.load(folder + "/values.pt"))[0]
    torch.testing.assert_close(answer, torch.load(folder + "/expected.pt"), atol=1e-5, rtol=0)
    print("OPENED", folder)
"""


def save_expected(model: nn.Module, folder: Path) -> None:
    """The adapted model's output, with weights in the adapter that no initialisation gives."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    values = torch.sin(torch.arange(3200) ** 1.2 / 7).reshape(2, 1600)
    with torch.no_grad():
        torch.save(model.eval()(values)[0], folder / "expected.pt")
    torch.save(values, folder / "values.pt")


def encoder_with(config: PeftConfig, folder: Path) -> None:
    torch.manual_seed(0)
    encoder = AutoModel.from_config(AutoConfig.for_model("wavlm", **SMALL))
    encoder.save_pretrained(folder / "base")
    model = get_peft_model(encoder, config)
    save_expected(model, folder)
    model.save_pretrained(folder / "adapter")


def combination_with_a_whole_head(folder: Path) -> None:
    torch.manual_seed(0)
    base = HubertForSequenceClassification(HubertConfig(**SMALL, num_labels=4))
    base.save_pretrained(folder / "base")
    lora = LoraConfig(r=2, target_modules=["intermediate_dense", "output_dense"])
    parts = [DeepPromptConfig(prompt_length=3), BottleneckConfig(bottleneck_size=4, scale=1.0), lora]
    model = get_peft_model(base, CombinedConfig(parts=parts, modules_to_save=["projector", "classifier"]))
    save_expected(model, folder)
    model.save_pretrained(folder / "adapter")


def adapter_of_a_run(folder: Path) -> None:
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model("wavlm", **SMALL)).save_pretrained(folder / "base")
    Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True).save_pretrained(folder / "base")
    tuned = tune(load_model(str(folder / "base"), ("angry", "happy", "neutral", "sad")), Tuning(method="adapter"))
    save_expected(tuned.model, folder)
    save_adapter(tuned.model, tuned.new, folder / "adapter", base=str(folder / "base"))


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, tuple[str, dict[str, object]]]:
    """For each folder the class of its base model, and the arguments of `from_pretrained`."""
    kinds: dict[str, tuple[Callable[[Path], None], str, dict[str, object]]] = {
        "bottleneck": (
            lambda folder: encoder_with(BottleneckConfig(bottleneck_size=8, placement="parallel"), folder), "AutoModel", {},
        ),
        "prompt": (lambda folder: encoder_with(DeepPromptConfig(), folder), "AutoModel", {}),
        "combined": (combination_with_a_whole_head, "HubertForSequenceClassification", {"num_labels": 4}),
        "run": (adapter_of_a_run, "WavLMForSequenceClassification", {"num_labels": 4}),
    }  # fmt: skip
    found = {}
    for name, (save, base, options) in kinds.items():
        (tmp_path / name).mkdir()
        save(tmp_path / name)
        found[str(tmp_path / name)] = (base, options)
    return found


def test_adapters_open_in_a_new_process(
    saved: dict[str, tuple[str, dict[str, object]]], python: Callable[..., Any]
) -> None:
    done = python("-c", OPEN, json.dumps(saved))
    assert done.returncode == 0, done.stderr[-3000:]
    opened = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("OPENED")]
    assert opened == list(saved)
