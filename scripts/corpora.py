"""Count the clips of corpora per emotion: python scripts/corpora.py ravdess=FOLDER crema_d=FOLDER ..."""

import argparse
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence

from datasets import Dataset

from hf_ser.audio import prepare
from hf_ser.command_line import errors_in_one_line
from hf_ser.corpora import LABEL_SOURCES, NAMES, labelled_by, read_corpora
from hf_ser.emotions import EMOTIONS


@errors_in_one_line()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "corpora",
        nargs="+",
        metavar="NAME=PATH",
        help=f"what to count, NAME being one of {', '.join(NAMES)}; in place of a corpus' folder a .txt file may list the "
        "names of its files",
    )
    parser.add_argument(
        "--hours", action="store_true", help="decode the clips, too, for hours and for clips that are broken"
    )
    parser.add_argument(
        "--label_source",
        choices=list(LABEL_SOURCES),
        default="intended",
        help="CREMA-D's labels: the emotion that the actor was asked for, or the one most viewers saw and heard",
    )
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("hf_ser").setLevel(logging.INFO)
    corpora = read_corpora(labelled_by(arguments.corpora, arguments.label_source))
    print_counts(corpora)
    print_speakers([prepare([rows]) for rows in corpora] if arguments.hours else corpora)
    return 0


def print_counts(corpora: Sequence[Dataset]) -> None:
    """Prints HuBERT-SER's Table 2 for `corpora`: clips per emotion and corpus."""
    names = [rows[0]["corpus"] for rows in corpora]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, rows in zip(names, corpora, strict=True):
        for emotion, copy_of in zip(rows["emotion"][:], rows["copy_of"][:], strict=True):
            counts[emotion][name] += copy_of is None
    others = sorted(set(counts) - set(EMOTIONS))
    lines: list[list[object]] = [["emotion", *names, "all"]]
    for emotion in (*EMOTIONS, *others):
        if emotion in counts:
            lines.append([emotion or "(none)", *(counts[emotion][name] for name in names), counts[emotion].total()])
    sizes = [sum(counts[emotion][name] for emotion in counts) for name in names]
    print_table([*lines, ["all", *sizes, sum(sizes)]])


def print_speakers(corpora: Sequence[Dataset]) -> None:
    """Prints the speakers of each corpus, and where it is decoded, its hours and broken clips."""
    decoded = "duration" in corpora[0].column_names
    lines: list[list[object]] = [
        ["corpus", "speakers", "female", "male", "unknown", *(["hours", "broken"] if decoded else [])]
    ]
    for rows in corpora:
        gender = dict(zip(rows["speaker"][:], rows["gender"][:], strict=True))
        gender.pop(None, None)
        genders = Counter(gender.values())
        line: list[object] = [rows[0]["corpus"], len(gender), genders["female"], genders["male"], genders[None]]
        if decoded:
            line += [f"{sum(rows['duration'][:]) / 3600:.2f}", sum(map(bool, rows["problem"][:]))]
        lines.append(line)
    print()
    print_table(lines)


def print_table(lines: Sequence[Sequence[object]]) -> None:
    """Prints lines in columns, the first to the left, figures to the right."""
    text = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    for line in text:
        print(
            "  ".join(
                [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
            )
        )


if __name__ == "__main__":
    sys.exit(main())
