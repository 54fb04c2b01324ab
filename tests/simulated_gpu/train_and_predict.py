"""Trains, evaluates, saves and opens models on the simulated device, in a process of its own: a device cannot be taken back."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils import backend_registration
from transformers import training_args

from hf_ser import SERConfig, SERTrainer, load_corpora, pipeline, train_test_split

TARGETS = ["emotion", "arousal"]


def use_device(library: str) -> None:
    """Registers the device; accelerate takes it by its environment variable `ACCELERATE_TORCH_DEVICE`."""
    torch.ops.load_library(library)
    backend_registration._setup_privateuseone_for_python_backend("gpu")
    torch.get_device_module("gpu").get_amp_supported_dtype = lambda: [torch.bfloat16]
    torch.backends.mps.is_available = lambda: True  # else a training would take the CPU
    training_args.is_torch_bf16_gpu_available = lambda: True


def largest_difference(method: str, folder: str, **arguments: object) -> float:
    """Between the predictions of the trainer on the device, and those of the saved model on the CPU and on the device."""
    args = SERConfig(
        output_dir=f"{folder}/{method}", num_train_epochs=1, max_steps=2, targets=TARGETS, report_to=[],
        disable_tqdm=True, dataloader_pin_memory=False, dataloader_num_workers=0, **arguments,
    )  # fmt: skip
    assert args.device.type == "gpu"
    trainer = SERTrainer(encoder, args, parts["train"], parts["validation"], None if method == "full" else method)
    trainer.train()
    assert {p.device.type for p in trainer.model.parameters()} == {"gpu"}
    found = trainer.predict(parts["test"])
    trainer.evaluate(parts["test"])
    trainer.save_model()
    trainer.create_model_card()
    names = (*trainer.emotions, "arousal")
    differences = []
    for device in ("cpu", "gpu:0"):
        recogniser = pipeline(args.output_dir, device=device)
        rows = recogniser([audio["bytes"] for audio in parts["test"]["audio"]])
        opened = [[{row["label"]: row["score"] for row in of}[name] for name in names] for of in rows]
        differences.append(np.abs(found.predictions - opened).max())
    return float(max(differences))


if __name__ == "__main__":
    library, corpus, encoder, folder = sys.argv[1:]
    use_device(library)
    clips = load_corpora({"synthetic": corpus}, targets=TARGETS)
    clips = clips.select(range(0, len(clips), 3))
    parts = train_test_split(clips, by="speaker", test_size=0.3, validation_size=0.2, seed=1)
    found = {
        "probe": largest_difference("probe", folder),
        "lora_qkv": largest_difference("lora_qkv", folder, bf16=True),
        "full": largest_difference(
            "full", folder, bf16=False, frozen_cache_gb=0, balance="weights", micro_batch_seconds=2.0
        ),
    }
    Path(folder, "differences.json").write_text(json.dumps(found), encoding="utf-8")
