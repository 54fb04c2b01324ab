"""`hf-ser evaluate`, as a file: see its --help."""

import sys

from hf_ser.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
