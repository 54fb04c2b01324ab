"""
Count the clips of corpora per emotion, list the corpora that hf_ser can read, or print what train and test of EmoBox's folds
share:

    hf-ser corpora ravdess=FOLDER crema_d=FOLDER mine.yaml=FOLDER
    hf-ser corpora --list
    hf-ser corpora --audit EmoBox
"""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from datasets import Dataset

from hf_ser.audio import prepare
from hf_ser.cli.options import add_options, new_parser
from hf_ser.command_line import errors_in_one_line, log_to_terminal, path_argument
from hf_ser.corpora import ABOUT, LEFT_OUT, NAMES, labelled_by, read_corpora
from hf_ser.emotions import EMOTIONS
from hf_ser.splits.audit import SharedByParts, audit_emobox
from hf_ser.wording import aligned, counted


@errors_in_one_line()
def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument(
        "corpora",
        nargs="*",
        metavar="NAME=PATH",
        help=f"the corpora to count. NAME is one of {', '.join(NAMES)}, or a YAML file that describes a corpus. PATH may be a "
        ".txt file with the names of the corpus' files",
    )
    parser.add_argument("--list", action="store_true", help="print the corpora that can be read, with their facts")
    parser.add_argument(
        "--audit",
        type=path_argument,
        metavar="FOLDER",
        help="EmoBox's repository, or one of its folders data/CORPUS: print the speakers, clips and sentences that train and "
        "test share",
    )
    parser.add_argument(
        "--hours",
        action="store_true",
        help="decode the clips, too, for hours and unreadable clips; with --audit, for recordings that train and test share",
    )
    add_options(parser, "--label_source")
    arguments = parser.parse_args()
    if arguments.list:
        print_known()
        return 0
    log_to_terminal(logging.WARNING if arguments.audit else logging.INFO)
    if arguments.audit:
        print_audit(list(audit_emobox(arguments.audit, decode=arguments.hours)))
        return 0
    corpora = read_corpora(labelled_by(arguments.corpora, arguments.label_source))
    print_counts(corpora)
    print_speakers([prepare([rows]) for rows in corpora] if arguments.hours else corpora)
    return 0


def print_known() -> None:
    """Prints the corpora that can be read, with the facts about them, and those that cannot."""
    lines: list[list[object]] = [
        ["corpus", "language", "speakers", "clips", "acted", "labels", "tried", "licence", "emotions"]
    ]
    for name, about in sorted(ABOUT.items()):
        licence = re.split("[:;,]", about.licence)[0]
        numbers = ["?" if number is None else number for number in (about.speaker_count, about.clips)]
        tried = "yes" if about.seen else "no"  # on the corpus' own files, or all their names
        acted = "yes" if about.acted else "no"
        lines.append(
            [name, about.language or "-", *numbers, acted, about.labels, tried, licence, " ".join(about.emotions)]
        )
    print_table(lines, left=(0, 5, 7, 8))
    for name, why in LEFT_OUT.items():
        print(f"\n{name}: {why}")


def print_audit(folds: Sequence[SharedByParts]) -> None:
    """Prints what train and test of each fold share, and how the corpus is split without shared speakers."""
    lines: list[list[object]] = [
        ["corpus", "fold", "train", "test", "speakers shared", "clips shared", "recordings shared", "sentences shared"]
    ]
    for fold in folds:
        unknown = f" ({fold.unknown} clips unknown)" if fold.unknown else ""
        speakers = f"{fold.speakers} of {fold.test_speakers}{unknown}" if fold.test_speakers else "unknown"
        sentences = "-" if fold.sentences is None else f"{fold.sentences} of {fold.test_sentences}"
        recordings = "-" if fold.recordings is None else fold.recordings
        lines.append([fold.corpus, fold.fold, fold.train, fold.test, speakers, fold.clips, recordings, sentences])
    print_table(lines)
    remedies = {fold.corpus: fold.remedy for fold in folds if fold.remedy}
    if remedies:
        print(
            "\nMetrics on folds that share speakers say nothing about a new speaker. Without shared speakers, in the same sizes:"
        )
        for corpus, remedy in remedies.items():
            print(f"  --corpora {corpus}=FOLDER", *(f"--{name} {value}" for name, value in remedy.items()))


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
    for name, rows in zip(names, corpora, strict=True):
        copies = [(clip, used) for clip, used in zip(rows["clip"][:], rows["copy_of"][:], strict=True) if used]
        if copies:
            print(
                f"{name}: {counted(len(copies), 'file')} not counted: copies by name, such as {copies[0][0]} of {copies[0][1]}"
            )


def print_speakers(corpora: Sequence[Dataset]) -> None:
    """Prints the speakers of each corpus, and where it is decoded, its hours and unreadable clips."""
    decoded = "duration" in corpora[0].column_names
    lines: list[list[object]] = [
        ["corpus", "speakers", "female", "male", "unknown", *(["hours", "unreadable"] if decoded else [])]
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


def print_table(lines: Sequence[Sequence[object]], left: Sequence[int] = (0,)) -> None:
    """Prints lines in columns, those in `left` flush left, all others flush right."""
    text = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in line] for line in lines]
    print(*aligned(text, left), sep="\n")
