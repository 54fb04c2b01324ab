from pathlib import Path

import torch
from transformers import HubertForSequenceClassification

from hf_ser.models import tiny


def test_the_same_weights_every_time_and_no_random_state_disturbed(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny.make(tmp_path / "a")
    assert torch.equal(torch.rand(3), expected)
    tiny.make(tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_it_can_be_fine_tuned(tmp_path: Path) -> None:
    tiny.make(tmp_path / "a")
    model = HubertForSequenceClassification.from_pretrained(tmp_path / "a", num_labels=8)
    assert model(torch.randn(2, 8000), attention_mask=torch.ones(2, 8000, dtype=torch.long)).logits.shape == (2, 8)
