"""A model in bfloat16 gives nearly the same answers, alone and in a batch, wherever it is called."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AudioClassificationPipeline

from hf_ser.inference import in_bfloat16, predict

Open = Callable[[Path], AudioClassificationPipeline]


@pytest.mark.parametrize("kind", ["tiny_hubert", "group_norm_hubert", "tiny_whisper"])
def test_nearly_the_same_answers(kind: str, opened: Open, request: pytest.FixtureRequest) -> None:
    classifier = opened(request.getfixturevalue(kind))
    rng = np.random.default_rng(0)
    clips = [
        {"array": (0.1 * rng.standard_normal(samples)).astype(np.float32), "sampling_rate": 16_000}
        for samples in (16_000, 9000, 30_000)
    ]
    before = [answer.probabilities for answer in predict(classifier, clips, progress=False)]
    assert in_bfloat16(classifier) is classifier
    after = [answer.probabilities for answer in predict(classifier, clips, progress=False)]
    for one, other, clip in zip(before, after, clips, strict=True):
        assert other == pytest.approx(one, abs=0.03)
        assert other != pytest.approx(one, abs=1e-7), "nothing was rounded"
        alone = {answer["label"]: answer["score"] for answer in classifier(dict(clip), top_k=None)}
        assert alone == pytest.approx(other, abs=0.03)


def test_what_is_sensitive_stays_in_float32(opened: Open, group_norm_hubert: Path) -> None:
    model = in_bfloat16(opened(group_norm_hubert)).model
    kinds = {type(module).__name__: weight.dtype for module in model.modules() for weight in module.parameters(False)}
    assert kinds["Linear"] == kinds["Conv1d"] == torch.bfloat16
    norms = {name for name in kinds if "Norm" in name}
    assert norms
    assert {kinds[name] for name in norms} == {torch.float32}


def test_an_exported_model_is_as_it_was_exported() -> None:
    classifier = SimpleNamespace(model=nn.Module(), device=torch.device("cpu"))
    with pytest.raises(ValueError, match="exported"):
        in_bfloat16(classifier)  # type: ignore[arg-type]
