"""Open a run's folder in transformers' own pipeline and classify a clip: python scripts/try_model.py runs/demo"""

import argparse
import shlex
import sys
from pathlib import Path

from transformers import pipeline

from hf_ser.audio import SAMPLING_RATE, read_mono
from hf_ser.command_line import errors_in_one_line, path_argument
from hf_ser.corpora import synthetic
from hf_ser.hub.loading import ADAPTER
from hf_ser.records import SPLITS
from hf_ser.splits import SavedSplit


@errors_in_one_line()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=path_argument, help="the run's folder, with a checkpoint in it")
    parser.add_argument(
        "clip", nargs="?", help="a WAV, FLAC, OGG or MP3 file; by default a synthetic clip of the test part"
    )
    arguments = parser.parse_args()
    require_checkpoint(arguments.folder)
    clip, label = arguments.clip, ""
    if clip is None:
        clip = synthetic_test_clip(arguments.folder)
        label = f" (its label: {Path(clip).stem.split('_')[1]})"
    classifier = pipeline("audio-classification", model=str(arguments.folder))
    print(f"\nThe model is in {arguments.folder}. Its prediction for {clip}{label}:")
    for answer in classifier({"array": read_mono(clip), "sampling_rate": SAMPLING_RATE}, top_k=3):
        print(f"  {answer['label']:<10} {100 * answer['score']:5.1f} %")
    return 0


def require_checkpoint(run: Path) -> None:
    """
    Raises:
        ValueError: if a folder holds an adapter alone, which a plain pipeline does not open.
    """
    if (run / ADAPTER).is_file() and not any(run.glob("model*.safetensors")):
        raise ValueError(
            f"{str(run)!r} holds an adapter and no checkpoint; hf-ser predict opens it: "
            f"hf-ser predict {shlex.quote(str(run))} CLIP"
        )


def synthetic_test_clip(run: Path) -> str:
    """
    A clip of the synthetic corpus whose speaker was not in training.

    Raises:
        ValueError: if the run was tested on another corpus.
    """
    name = SavedSplit.read(run / SPLITS).parts["test"][0]
    if not name.startswith(f"{synthetic.NAME}/"):
        raise ValueError(f"{str(run)!r} was tested on {name.partition('/')[0]}, not on {synthetic.NAME}: name a CLIP")
    return str(synthetic.default_folder() / f"{name.removeprefix(f'{synthetic.NAME}/')}.wav")


if __name__ == "__main__":
    sys.exit(main())
