"""Fine-tune a pretrained speech encoder to recognise emotion: accelerate launch scripts/finetune.py --config RECIPE.yaml"""

import logging
import os
import sys

from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging as transformers_logging

from hf_ser.command_line import errors_in_one_line
from hf_ser.memory import keep_freed_memory
from hf_ser.training import finetune, parse_arguments


def main() -> int:
    arguments = parse_arguments(sys.argv[1:], __doc__)
    keep_freed_memory()
    first = arguments.training.process_index == 0
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("hf_ser").setLevel(logging.INFO if first else logging.ERROR)
    if not first:
        transformers_logging.set_verbosity_error()

    @errors_in_one_line(interrupted="interrupted; there is no checkpoint yet to go on from", quiet=not first)
    def train() -> int:
        try:
            finetune(arguments)
        except KeyboardInterrupt:
            folder = arguments.training.output_dir or ""
            if os.path.isdir(folder) and get_last_checkpoint(folder):
                told = "interrupted; with --resume_from_checkpoint True it goes on from the last checkpoint"
                raise KeyboardInterrupt(told) from None
            raise
        return 0

    return train()


if __name__ == "__main__":
    sys.exit(main())
