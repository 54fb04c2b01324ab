"""What several tests of training use."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hf_ser.models import load_model
from hf_ser.training import SERTrainer, parse_arguments
from hf_ser.training.clips import RunClips, load_clips
from hf_ser.training.run import make_trainer
from hf_ser.tuning import tune


@pytest.fixture
def make(speech: Path, tiny_hubert: Path, tmp_path: Path) -> Callable[..., tuple[SERTrainer, RunClips]]:
    """A trainer for the small synthetic corpus, in float32."""

    def build(*argv: str, checkpoint: Path = tiny_hubert) -> tuple[SERTrainer, RunClips]:
        arguments = parse_arguments(
            ["--output_dir", str(tmp_path / "run"), "--corpora", f"synthetic={speech}", "--model", str(checkpoint), "--bf16", "False",
             "--emotions", "angry", "sad", "happy", "--disable_tqdm", "True", "--learning_rate", "1e-3", "--speed_probability", "0", "--head", "stock",
             *argv]
        )  # fmt: skip
        torch.manual_seed(0)
        clips = load_clips(arguments.data, 400)
        model = arguments.model
        loaded = load_model(
            str(checkpoint),
            clips.emotions,
            head=model.head,
            weighted_layer_sum=model.weighted_layer_sum,
            mask_time_prob=model.mask_time_prob,
        )
        return make_trainer(arguments, clips, tune(loaded, arguments.tuning), loaded.feature_extractor), clips

    return build
