from pathlib import Path

import torch

from hf_ser.modeling import tiny


def test_the_same_weights_every_time_and_no_random_state_disturbed(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny.make(tmp_path / "a")
    assert torch.equal(torch.rand(3), expected)
    tiny.make(tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
