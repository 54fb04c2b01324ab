"""
Fine-tune a pretrained speech encoder to recognise emotion, and evaluate it on the test part (by default on new speakers).

    hf-ser finetune --corpora ravdess=/data/RAVDESS --method lora_qkv --output_dir runs/ravdess
    hf-ser finetune --config scripts/recipes/hubert_ser/lora_qkv.yaml --corpora ravdess=/data/RAVDESS --output_dir runs/hubert
    accelerate launch scripts/finetune.py --config RECIPE.yaml ... --push_to_hub True --hub_model_id user/my-model

--seeds 42 43 44 in place of --seed trains one run for each seed, in OUTPUT_DIR/seed-42 and so on, and ends in a table with mean
and standard deviation; the same command resumes. Without --seeds, --resume_from_checkpoint True resumes.
"""

import argparse
import logging
import sys

from transformers.utils import logging as transformers_logging

from hf_ser.command_line import errors_in_one_line, log_to_terminal
from hf_ser.memory import keep_freed_memory
from hf_ser.training import finetune, parse_arguments
from hf_ser.training.folder import last_checkpoint
from hf_ser.training.run import finetune_seeds, seeds_as_markdown


def main() -> int:
    several = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    several.add_argument("--seeds", type=int, nargs="+")
    own, argv = several.parse_known_args()
    arguments = parse_arguments(argv, __doc__)
    keep_freed_memory()
    first = arguments.training.process_index == 0
    log_to_terminal(logging.INFO if first else logging.ERROR)
    if first:
        transformers_logging.set_verbosity_warning()

    @errors_in_one_line(interrupted="interrupted; there is no checkpoint yet to go on from", quiet=not first)
    def train() -> int:
        try:
            if not own.seeds:
                finetune(arguments)
                return 0
            summary = finetune_seeds(argv, arguments, own.seeds)
        except KeyboardInterrupt:
            if own.seeds:
                raise KeyboardInterrupt("interrupted; the same command goes on") from None
            if last_checkpoint(arguments.training.folder):
                message = "interrupted; with --resume_from_checkpoint True it goes on from the last checkpoint"
                raise KeyboardInterrupt(message) from None
            raise
        if first:
            print(seeds_as_markdown(summary))
        return 0

    return train()


if __name__ == "__main__":  # accelerate launch starts it as a module
    sys.exit(main())
