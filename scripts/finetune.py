"""Fine-tune a pretrained speech encoder to recognise emotion: accelerate launch scripts/finetune.py --config RECIPE.yaml"""

import logging
import os
import sys

from transformers.utils import logging as transformers_logging

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
    try:
        finetune(arguments)
    except (ValueError, OSError) as error:
        if os.environ.get("HF_SER_DEBUG"):
            raise
        if first:
            print(f"error: {error}\n(HF_SER_DEBUG=1 shows where)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
