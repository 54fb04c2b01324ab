"""`hf-ser export`, as a file: see its --help."""

import sys

from hf_ser.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
