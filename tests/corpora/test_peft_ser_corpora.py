"""PEFT-SER's corpora in the layouts of their releases, their folds, and CREMA-D by votes from its true tables."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

from hf_ser import splits
from hf_ser.corpora import CorpusError, labelled_by, read, read_corpora
from hf_ser.splits import Clips
from hf_ser.training import DataArguments
from hf_ser.training.clips import load_clips

Write = Callable[..., Path]
PEFT_SER = ["neutral", "happy", "sad", "angry"]


def clips(rows: Dataset) -> Clips:
    columns = ("clip", "emotion", "speaker", "gender", "corpus", "session", "split")
    return Clips(*(rows[column][:] for column in columns))


def by_name(rows: Dataset) -> dict[str, dict[str, object]]:
    return {row["clip"].partition("/")[2]: row for row in rows}


# IEMOCAP

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"


def turn(name: str, code: str, start: float = 6.2901) -> str:
    """A turn as EmoEvaluation has it: the label, then each annotator's categories and attributes, then a gap."""
    return (
        f"[{start:.4f} - {start + 1.9456:.4f}]\t{name}\t{code}\t[2.5000, 2.5000, 2.5000]\n"
        "C-E2:\tNeutral;\t()\nC-E3:\tNeutral; Anger;\t()\nC-E4:\tOther;\t([sic] upset)\nC-F1:\tNeutral;\t(curious)\n"
        "A-E3:\tval 3; act 2; dom  2;\t()\nA-E4:\tval 2; act 3; dom  3;\t(mildly aggravated, staying polite)\n"
        "A-F1:\tval 3; act 2; dom  1;\t()\n\n"
    )


@pytest.fixture
def iemocap(tmp_path: Path, write_clip: Write) -> Path:
    """Five sessions of two dialogues; the first has each code, all have hidden files and annotators' own folders."""
    root = tmp_path / "IEMOCAP_full_release"
    codes = ("neu", "ang", "sad", "hap", "exc", "fru", "fea", "sur", "dis", "oth", "xxx")
    for session in range(1, 6):
        evaluations = root / f"Session{session}/dialog/EmoEvaluation"
        for kind in ("Categorical", "Attribute", "Self-evaluation"):
            (evaluations / kind).mkdir(parents=True)
        dialogs = {
            f"Ses0{session}F_impro01": codes if session == 1 else codes[:5],
            f"Ses0{session}M_script03_2": codes[:3],
        }
        for dialog, spoken in dialogs.items():
            names = [f"{dialog}_{'FM'[i % 2]}{i // 2:03d}" for i in range(len(spoken))]
            text = HEADER + "".join(turn(name, code) for name, code in zip(names, spoken, strict=True))
            (evaluations / f"{dialog}.txt").write_text(text, encoding="utf-8")
            (evaluations / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07Mac OS X\xff")
            (evaluations / f"Categorical/{dialog}_e2_cat.txt").write_text(f"{names[0]} :Anger; ()\n", encoding="utf-8")
            (evaluations / f"Attribute/{dialog}_e3_atr.txt").write_text(
                f"{names[0]} :act 4; :val 3;\n", encoding="utf-8"
            )
            for name in names:
                write_clip(root / f"Session{session}/sentences/wav/{dialog}/{name}.wav")
            (root / f"Session{session}/sentences/wav/{dialog}/._{names[0]}.wav").write_bytes(b"\x00")
            write_clip(root / f"Session{session}/dialog/wav/{dialog}.wav")
    return root


class TestIEMOCAP:
    def test_rows(self, iemocap: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="hf_ser"):
            [rows] = read(f"iemocap={iemocap}")
        assert len(rows) == 14 + 4 * 8
        assert Counter(rows["emotion"][:]) == {
            "neutral": 10,
            "angry": 10,
            "sad": 10,
            "happy": 10,
            **dict.fromkeys(("frustrated", "fear", "surprise", "disgust", "other", "no_agreement"), 1),
        }
        assert caplog.messages == ["iemocap: 5 turns of excitement (exc) count as happy"]
        found = by_name(rows)
        first = found["Ses01F_impro01_F000"]
        assert first.pop("audio")["path"] == str(  # type: ignore[attr-defined]
            iemocap / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
        )
        assert first == {
            "clip": "iemocap/Ses01F_impro01_F000",
            "emotion": "neutral",
            "speaker": "iemocap_Ses01F",
            "gender": "female",
            "corpus": "iemocap",
            "session": "iemocap_Session1",
            "split": None,
            "copy_of": None,
            "kind": "improvised",
        }
        # Who talks is in the turn's last part; the dialogue's letter is who wears the markers.
        other = found["Ses04M_script03_2_F001"]
        assert (other["speaker"], other["gender"], other["session"]) == ("iemocap_Ses04F", "female", "iemocap_Session4")
        assert (other["emotion"], other["kind"]) == ("sad", "scripted")
        assert found["Ses01F_impro01_M000"]["speaker"] == "iemocap_Ses01M"
        assert all(Path(row["audio"]["path"]).is_file() for row in rows)

    def test_the_folder_above(self, iemocap: Path) -> None:
        [rows], [above] = read(f"iemocap={iemocap}"), read(f"iemocap={iemocap.parent}")
        assert rows[:] == above[:]

    @pytest.mark.parametrize("fold", range(5))
    def test_folds(self, iemocap: Path, fold: int) -> None:
        """Section V.A: session k is the test part, the last of the others validates."""
        [rows] = read(f"iemocap={iemocap}")
        split = splits.kfold(clips(rows), fold=fold, by="session")
        parts = {part: {rows["session"][i] for i in found} for part, found in split.parts.items()}
        last = 4 if fold == 4 else 5
        assert parts["test"] == {f"iemocap_Session{fold + 1}"}
        assert parts["validation"] == {f"iemocap_Session{last}"}
        assert len(parts["train"]) == 3
        assert not split.shared_speakers(clips(rows))
        with pytest.raises(splits.SplitError, match="between 0 and 4"):
            splits.kfold(clips(rows), fold=5, by="session")

    def test_a_run_says_what_it_leaves_out(self, iemocap: Path) -> None:
        arguments = DataArguments(
            corpora=[f"iemocap={iemocap}"], emotions=PEFT_SER, split="kfold", fold_by="session", prepare_workers=1
        )
        run = load_clips(arguments, 400)
        assert len(run.clips) == 40
        assert run.left_out == dict.fromkeys(("disgust", "fear", "frustrated", "no_agreement", "other", "surprise"), 1)
        assert not run.set_aside
        assert len(run.split.parts["test"]) == 8

    def test_a_label_without_audio_is_set_aside(self, iemocap: Path) -> None:
        gone = iemocap / "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F000.wav"
        gone.unlink()
        arguments = DataArguments(
            corpora=[f"iemocap={iemocap}"], emotions=PEFT_SER, split="kfold", fold_by="session", prepare_workers=1
        )
        run = load_clips(arguments, 400)
        assert [(clip.clip, clip.reason) for clip in run.set_aside] == [("iemocap/Ses02F_impro01_F000", "unreadable")]
        [rows] = read(f"iemocap={iemocap}")
        assert by_name(rows)[gone.stem]["audio"]["path"] == str(gone)  # type: ignore[index]

    def test_audio_without_a_label_is_told(
        self, iemocap: Path, write_clip: Write, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_clip(iemocap / "Session1/sentences/wav/Ses01F_impro09/Ses01F_impro09_M000.wav")
        [rows] = read(f"iemocap={iemocap}")
        assert len(rows) == 46
        assert "1 audio files have no label, for instance Ses01F_impro09_M000" in caplog.text

    @pytest.mark.parametrize(
        "line",
        [
            "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu",
            "[6.2901 - 8.2357]\tSes01F_impro01\tneu\t[2.5000, 2.5000, 2.5000]",
            "[6.2901 - 8.2357]\tSes01F_impro01_F000\t[2.5000, 2.5000, 2.5000]",
            "[6.2901]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]",
        ],
    )
    def test_a_malformed_line(self, iemocap: Path, line: str) -> None:
        path = iemocap / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
        path.write_text(HEADER + line + "\n", encoding="utf-8")
        with pytest.raises(CorpusError, match=r"Ses01F_impro01\.txt, line 3: .* is no label"):
            read(f"iemocap={iemocap}")

    def test_a_turn_that_is_labelled_twice(self, iemocap: Path) -> None:
        path = iemocap / "Session1/dialog/EmoEvaluation/Ses01M_script03_2.txt"
        with path.open("a", encoding="utf-8") as file:
            file.write(turn("Ses01F_impro01_F000", "ang"))
        with pytest.raises(
            CorpusError, match=r"script03_2\.txt, line 30: Ses01F_impro01_F000 has .* in .*impro01\.txt, line 3"
        ):
            read(f"iemocap={iemocap}")

    def test_a_code_that_nobody_knows_keeps_its_name(self, iemocap: Path) -> None:
        path = iemocap / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
        path.write_text(HEADER + turn("Ses01F_impro01_F000", "bor"), encoding="utf-8")
        [rows] = read(f"iemocap={iemocap}")
        assert by_name(rows)["Ses01F_impro01_F000"]["emotion"] == "bor"

    def test_no_evaluations(self, tmp_path: Path, write_clip: Write) -> None:
        write_clip(tmp_path / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav")
        with pytest.raises(CorpusError, match=r"iemocap: no evaluation .*EmoEvaluation.*the folder holds Session1"):
            read(f"iemocap={tmp_path}")

    def test_evaluations_without_a_label(self, iemocap: Path) -> None:
        for path in iemocap.glob("Session*/dialog/EmoEvaluation/S*.txt"):
            path.write_text(HEADER, encoding="utf-8")
        with pytest.raises(CorpusError, match="the 10 files such as .* hold no label"):
            read(f"iemocap={iemocap}")

    def test_no_audio(self, iemocap: Path) -> None:
        for session in range(1, 6):
            shutil.rmtree(iemocap / f"Session{session}/sentences")
        with pytest.raises(CorpusError, match="iemocap: no audio below"):
            read(f"iemocap={iemocap}")


# MSP-Improv


def block(name: str, code: str, attributes: str = "A:2.800000; V:3.200000; D:3.000000 ; N:4.400000;") -> str:
    """A clip as Evalution.txt has it: the label and the mean attributes, then each rater's line, then a gap."""
    return (
        f"UTD-IMPROV-{name}.avi; {code}; {attributes}\n"
        "117-p2; Neutral; Neutral; A:3.000000; V:3.000000; D:3.000000; N:5.000000;\n"
        "GE_0042-p1; Angry; Angry,Frustrated,Other:upset; A:2.000000; V:4.000000; D:3.000000; N:4.000000;\n"
        "A1B2-p3; Happy; Happy,Excited; A:3.000000; V:3.000000; D:NaN; N:4.000000;\n\n"
    )


@pytest.fixture
def msp_improv(tmp_path: Path, write_clip: Write) -> Path:
    """Six sessions; each speaker in all four conditions, and in the first session two clips of no and of other emotion."""
    labels = []
    for session in range(1, 7):
        for speaker in (f"F0{session}", f"M0{session}"):
            labels += [
                (f"S01A-{speaker}-P-FM01", "N"),
                (f"S05H-{speaker}-T-MF01", "H"),
                (f"S01A-{speaker}-R-{speaker[0] * 2}01", "A"),
                (f"S20S-{speaker}-S-FM12", "S"),
            ]
    labels += [("S10N-F01-S-MF03", "X"), ("S10N-M01-S-MF04", "O")]
    write_improv(tmp_path / "MSP-IMPROV", labels, write_clip)
    return tmp_path / "MSP-IMPROV"


def write_improv(root: Path, labels: list[tuple[str, str]], write_clip: Write) -> None:
    for name, _ in labels:
        sentence, speaker, condition, _ = name.split("-")
        write_clip(root / f"Audio/session{speaker[2]}/{sentence}/{condition}/MSP-IMPROV-{name}.wav")
    (root / "Evalution.txt").write_text("".join(block(*label) for label in labels), encoding="utf-8")


class TestMSPImprov:
    def test_rows(self, msp_improv: Path) -> None:
        [rows] = read(f"msp_improv={msp_improv}")
        assert Counter(rows["emotion"][:]) == {
            "neutral": 12,
            "happy": 12,
            "angry": 12,
            "sad": 12,
            "no_agreement": 1,
            "other": 1,
        }
        assert len(set(rows["speaker"][:])) == 12
        found = by_name(rows)
        row = found["MSP-IMPROV-S05H-M03-T-MF01"]
        assert row.pop("audio")["path"] == str(  # type: ignore[attr-defined]
            msp_improv / "Audio/session3/S05H/T/MSP-IMPROV-S05H-M03-T-MF01.wav"
        )
        assert row == {
            "clip": "msp_improv/MSP-IMPROV-S05H-M03-T-MF01",
            "emotion": "happy",
            "speaker": "msp_improv_M03",
            "gender": "male",
            "corpus": "msp_improv",
            "session": "msp_improv_session3",
            "split": None,
            "copy_of": None,
            "condition": "target",
            "statement": "S05",
        }
        assert Counter(rows["condition"][:]) == {"natural": 12, "target": 12, "read": 12, "improvised": 14}
        assert found["MSP-IMPROV-S10N-F01-S-MF03"]["gender"] == "female"
        assert all(Path(row["audio"]["path"]).is_file() for row in rows)

    @pytest.mark.parametrize("layout", ["Evaluation.txt", "no Audio folder", "wav in the label", "no attributes"])
    def test_other_layouts(self, msp_improv: Path, layout: str) -> None:
        [rows] = read(f"msp_improv={msp_improv}")
        evaluation = msp_improv / "Evalution.txt"
        text = evaluation.read_text(encoding="utf-8")
        match layout:
            case "Evaluation.txt":
                evaluation.rename(msp_improv / layout)
            case "no Audio folder":
                for folder in (msp_improv / "Audio").iterdir():
                    folder.rename(msp_improv / folder.name)
            case "wav in the label":
                evaluation.write_text(text.replace("UTD-", "MSP-").replace(".avi", ".wav"), encoding="utf-8")
            case "no attributes":
                evaluation.write_text(text.replace("A:2.800000; V:3.200000", "A:NaN; V:NaN"), encoding="utf-8")
        [other] = read(f"msp_improv={msp_improv}")
        assert rows.remove_columns("audio")[:] == other.remove_columns("audio")[:]
        assert all(Path(row["audio"]["path"]).is_file() for row in other)

    @pytest.mark.parametrize("fold", range(6))
    def test_folds(self, msp_improv: Path, fold: int) -> None:
        [rows] = read(f"msp_improv={msp_improv}")
        split = splits.kfold(clips(rows), fold=fold, by="session")
        speakers = split.speakers(clips(rows))
        last = 5 if fold == 5 else 6
        assert speakers["test"] == {f"msp_improv_{letter}0{fold + 1}" for letter in "FM"}
        assert speakers["validation"] == {f"msp_improv_{letter}0{last}" for letter in "FM"}
        assert len(speakers["train"]) == 8
        assert split.settings["folds"] == 6

    def test_a_run_says_what_it_leaves_out(self, msp_improv: Path) -> None:
        arguments = DataArguments(
            corpora=[f"msp_improv={msp_improv}"], emotions=PEFT_SER, split="kfold", fold_by="session", prepare_workers=1
        )
        run = load_clips(arguments, 400)
        assert (len(run.clips), run.left_out) == (48, {"no_agreement": 1, "other": 1})

    def test_audio_and_labels_that_do_not_match(
        self, msp_improv: Path, write_clip: Write, caplog: pytest.LogCaptureFixture
    ) -> None:
        gone = msp_improv / "Audio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav"
        gone.rename(gone.with_name("MSP-IMPROV-S01A-F01-P-FM77.wav"))
        [rows] = read(f"msp_improv={msp_improv}")
        assert len(rows) == 50
        assert by_name(rows)[gone.stem]["audio"]["path"] == str(gone)  # type: ignore[index]
        assert "1 audio files have no label, for instance MSP-IMPROV-S01A-F01-P-FM77" in caplog.text

    @pytest.mark.parametrize(
        "line",
        [
            "UTD-IMPROV-S01A-F01-P-FM01.avi",
            "UTD-IMPROV-S01A-F01-P-FM01.avi; ; A:2.8;",
            "UTD-IMPROV-S01A-F07-P-FM01.avi; N; A:2.8;",
            "UTD-IMPROV-S01A-F01-Q-FM01.avi; N; A:2.8;",
        ],
    )
    def test_a_malformed_line(self, msp_improv: Path, line: str) -> None:
        (msp_improv / "Evalution.txt").write_text(block("S01A-F01-P-FM01", "N") + line + "\n", encoding="utf-8")
        with pytest.raises(CorpusError, match=r"Evalution\.txt, line 6: .* is no label"):
            read(f"msp_improv={msp_improv}")

    def test_a_clip_that_is_labelled_twice(self, msp_improv: Path) -> None:
        text = block("S01A-F01-P-FM01", "N") + block("S01A-F01-P-FM01", "A")
        (msp_improv / "Evalution.txt").write_text(text, encoding="utf-8")
        with pytest.raises(CorpusError, match=r"line 6: MSP-IMPROV-S01A-F01-P-FM01 has a label already, in line 1"):
            read(f"msp_improv={msp_improv}")

    def test_no_evaluation(self, msp_improv: Path) -> None:
        (msp_improv / "Evalution.txt").unlink()
        with pytest.raises(CorpusError, match=r"no Evalution.txt or Evaluation.txt in .* which holds Audio"):
            read(f"msp_improv={msp_improv}")

    def test_an_empty_evaluation(self, msp_improv: Path) -> None:
        (msp_improv / "Evalution.txt").write_text("\n", encoding="utf-8")
        with pytest.raises(CorpusError, match="holds no label"):
            read(f"msp_improv={msp_improv}")

    def test_no_audio(self, msp_improv: Path) -> None:
        shutil.rmtree(msp_improv / "Audio")
        with pytest.raises(CorpusError, match="msp_improv: no audio below"):
            read(f"msp_improv={msp_improv}")


# MSP-Podcast

COLUMNS = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
LINES = [
    "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1",
    "MSP-PODCAST_0001_0009.wav,H,3.777778,3.555556,3.777778,30,Male,Test1",
    "MSP-PODCAST_0002_0001.wav,N,4.0,4.0,4.0,7,Female,Train",
    "MSP-PODCAST_0002_0002.wav,H,4.0,4.0,4.0,7,Female,Train",
    "MSP-PODCAST_0002_0003.wav,C,4.0,4.0,4.0,7,Female,Train",
    "MSP-PODCAST_0002_0004.wav,A,4.0,4.0,4.0,Unknown,Unknown,Train",
    "MSP-PODCAST_0002_0005.wav,S,4.0,4.0,4.0,Unknown,Female,Train",
    "MSP-PODCAST_0003_0001.wav,N,4.0,4.0,4.0,12,Female,Validation",
    "MSP-PODCAST_0003_0002.wav,H,4.0,4.0,4.0,12,Female,Development",
    "MSP-PODCAST_0003_0003.wav,X,4.0,4.0,4.0,12,Female,Validation",
    "MSP-PODCAST_0004_0001.wav,U,4.0,4.0,4.0,30,Male,Test2",
    "MSP-PODCAST_0004_0002.wav,O,4.0,4.0,4.0,30,Male,Test3",
    "MSP-PODCAST_0004_0003.wav,D,4.0,4.0,4.0,Unknown,Unknown,Test2",
]


@pytest.fixture(params=["labels_consensus.csv", "labels_concensus.csv"])
def msp_podcast(tmp_path: Path, write_clip: Write, request: pytest.FixtureRequest) -> Path:
    root = tmp_path / "MSP-PODCAST"
    (root / "Labels").mkdir(parents=True)
    for line in LINES:
        write_clip(root / "Audios" / line.partition(",")[0])
    write_table(root, LINES, request.param)
    (root / "Labels/labels_detailed.csv").write_text("FileName,Worker\n", encoding="utf-8")
    return root


def write_table(root: Path, lines: list[str], name: str | None = None) -> None:
    path = root / "Labels" / name if name else next((root / "Labels").glob("labels_con*.csv"))
    path.write_text("\n".join([COLUMNS, *lines]) + "\n", encoding="utf-8")


class TestMSPPodcast:
    def test_rows(self, msp_podcast: Path, caplog: pytest.LogCaptureFixture) -> None:
        [rows] = read(f"msp_podcast={msp_podcast}")
        assert caplog.messages == [
            "msp_podcast: 3 of 13 clips have an unknown speaker and are left out, as unknown_speaker: 1 of Test2, 2 of Train"
        ]
        found = by_name(rows)
        row = found["MSP-PODCAST_0001_0009"]
        assert row.pop("audio")["path"] == str(msp_podcast / "Audios/MSP-PODCAST_0001_0009.wav")  # type: ignore[attr-defined]
        assert row == {
            "clip": "msp_podcast/MSP-PODCAST_0001_0009",
            "emotion": "happy",
            "speaker": "msp_podcast_30",
            "gender": "male",
            "corpus": "msp_podcast",
            "session": None,
            "split": "test",
            "copy_of": None,
            "split_set": "Test1",
        }
        words = [(row["emotion"], row["speaker"], row["gender"], row["split"]) for row in rows]
        assert words[2:] == [
            ("neutral", "msp_podcast_7", "female", "train"),
            ("happy", "msp_podcast_7", "female", "train"),
            ("contempt", "msp_podcast_7", "female", "train"),
            ("unknown_speaker", None, None, "train"),
            ("unknown_speaker", None, "female", "train"),
            ("neutral", "msp_podcast_12", "female", "validation"),
            ("happy", "msp_podcast_12", "female", "validation"),
            ("no_agreement", "msp_podcast_12", "female", "validation"),
            ("surprise", "msp_podcast_30", "male", None),
            ("other", "msp_podcast_30", "male", None),
            ("unknown_speaker", None, None, None),
        ]

    def test_each_code(self, msp_podcast: Path) -> None:
        write_table(msp_podcast, [f"{code}.wav,{code},4,4,4,1,Male,Train" for code in "ASHUFDCNOX"])
        [rows] = read(f"msp_podcast={msp_podcast}")
        assert {name: row["emotion"] for name, row in by_name(rows).items()} == {
            "A": "angry",
            "S": "sad",
            "H": "happy",
            "U": "surprise",
            "F": "fear",
            "D": "disgust",
            "C": "contempt",
            "N": "neutral",
            "O": "other",
            "X": "no_agreement",
        }

    def test_a_run_has_the_official_split_and_says_what_it_leaves_out(self, msp_podcast: Path) -> None:
        arguments = DataArguments(
            corpora=[f"msp_podcast={msp_podcast}"], emotions=["neutral", "happy"], split="official", prepare_workers=1
        )
        run = load_clips(arguments, 400)
        assert run.left_out == {"contempt": 1, "no_agreement": 1, "other": 1, "surprise": 1, "unknown_speaker": 3}
        assert run.split.describe(run.table)["parts"] == {
            part: {"clips": 2, "speakers": 1, "clips_without_speaker": 0, "emotions": {"happy": 1, "neutral": 1}}
            for part in ("train", "validation", "test")
        }
        assert not run.warnings

    def test_the_folder_above_and_the_older_name_of_the_audio_folder(self, msp_podcast: Path) -> None:
        (msp_podcast / "Audios").rename(msp_podcast / "Audio")
        [rows], [above] = read(f"msp_podcast={msp_podcast}"), read(f"msp_podcast={msp_podcast.parent}")
        assert rows[:] == above[:]
        assert all(Path(row["audio"]["path"]).is_file() for row in rows)

    def test_audio_and_labels_that_do_not_match(
        self, msp_podcast: Path, write_clip: Write, caplog: pytest.LogCaptureFixture
    ) -> None:
        gone = msp_podcast / "Audios/MSP-PODCAST_0001_0008.wav"
        gone.rename(gone.with_name("MSP-PODCAST_9999_0001.wav"))
        [rows] = read(f"msp_podcast={msp_podcast}")
        assert by_name(rows)[gone.stem]["audio"]["path"] == str(gone)  # type: ignore[index]
        assert "1 audio files have no label, for instance MSP-PODCAST_9999_0001" in caplog.text

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("MSP-PODCAST_0001_0010.wav,N,2.2,4.0", r"csv, line 15: .* does not fit the columns"),
            (
                "MSP-PODCAST_0001_0010.wav,N,2.2,4.0,2.6,30,Male,Test1,more",
                r"csv, line 15: .* does not fit the columns",
            ),
            ("MSP-PODCAST_0001_0010.wav,,2.2,4.0,2.6,30,Male,Test1", r"csv, line 15: .* does not fit the columns"),
            (LINES[0], r"csv, line 15: MSP-PODCAST_0001_0008.wav has a label already, in line 2"),
        ],
    )
    def test_a_line_that_is_wrong(self, msp_podcast: Path, line: str, message: str) -> None:
        write_table(msp_podcast, [*LINES, line])
        with pytest.raises(CorpusError, match=message):
            read(f"msp_podcast={msp_podcast}")

    def test_a_table_without_a_column(self, msp_podcast: Path) -> None:
        table = next((msp_podcast / "Labels").glob("labels_con*.csv"))
        table.write_text("FileName,EmoClass,EmoAct\na.wav,N,2\n", encoding="utf-8")
        with pytest.raises(
            CorpusError, match="has no column SpkrID, Gender, Split_Set; found FileName, EmoClass, EmoAct"
        ):
            read(f"msp_podcast={msp_podcast}")

    def test_an_empty_table(self, msp_podcast: Path) -> None:
        write_table(msp_podcast, [])
        with pytest.raises(CorpusError, match="lists no clip"):
            read(f"msp_podcast={msp_podcast}")

    def test_no_table(self, msp_podcast: Path) -> None:
        shutil.rmtree(msp_podcast / "Labels")
        with pytest.raises(CorpusError, match="no Labels/labels_consensus.csv or .* which holds Audios"):
            read(f"msp_podcast={msp_podcast}")

    def test_no_audio(self, msp_podcast: Path) -> None:
        shutil.rmtree(msp_podcast / "Audios")
        with pytest.raises(CorpusError, match="msp_podcast: no audio in"):
            read(f"msp_podcast={msp_podcast}")


@pytest.mark.parametrize("corpus", ["iemocap", "msp_improv", "msp_podcast"])
def test_a_folder_that_is_not_there(tmp_path: Path, corpus: str) -> None:
    (tmp_path / "list.txt").write_text("a.wav\n", encoding="utf-8")
    for path in (tmp_path / "nowhere", tmp_path / "list.txt"):
        with pytest.raises(CorpusError, match=f"{corpus}: there is no folder .*{path.name}"):
            read(f"{corpus}={path}")


# CREMA-D by votes

VOTES = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'


@pytest.fixture
def crema_d(tmp_path: Path, write_clip: Write) -> Path:
    root = tmp_path / "CREMA-D"
    for name in ("1001_DFA_ANG_XX", "1001_IEO_NEU_XX", "1002_DFA_SAD_XX", "1076_MTI_SAD_XX"):
        write_clip(root / f"AudioWAV/{name}.wav")
    write_clip(root / "AudioMP3/1001_DFA_ANG_XX.flac")
    (root / "processedResults").mkdir()
    lines = (
        '"1","1001_DFA_ANG_XX","N","69.1","D","92.22","D","64.78"\n'
        '"2","1001_IEO_NEU_XX","N","69.1","N","92.22","A:N","64.78"\n'
        '"3","1002_DFA_SAD_XX","N","69.1","N","92.22","S","64.78"\n'
        '"4","1076_MTI_SAD_XX","N","69.1","N","92.22","S","64.78"\n'
    )
    (root / "processedResults/summaryTable.csv").write_text(VOTES + lines, encoding="utf-8")
    return root


class TestCREMADByVotes:
    def test_table_iii_comes_out_of_the_true_votes(self, shared: Path, tmp_path: Path) -> None:
        for path in (
            shared / "data/file-lists/CREMA-D.txt",
            shared / "data/crema-d/processedResults/summaryTable.csv",
            shared / "data/crema-d/VideoDemographics.csv",
        ):
            shutil.copy(path, tmp_path)
        [rows] = read(f"crema_d_votes={tmp_path / 'CREMA-D.txt'}")
        assert Counter(rows["emotion"][:]) == {
            "neutral": 1972,
            "happy": 1219,
            "sad": 588,
            "angry": 1019,
            "disgust": 1139,
            "fear": 1084,
            "no_agreement": 420,
        }
        gender = dict(zip(rows["speaker"][:], rows["gender"][:], strict=True))
        assert Counter(gender.values()) == {"female": 43, "male": 48}
        # Section V.A: a fifth of the speakers, in sorted order, is each fold's test part.
        parts = [splits.kfold(clips(rows), fold=fold).speakers(clips(rows)) for fold in range(5)]
        assert [len(part["test"]) for part in parts] == [19, 18, 18, 18, 18]
        assert set().union(*(part["test"] for part in parts)) == set(gender)
        assert {len(part["validation"]) for part in parts} == {14}

    @pytest.mark.parametrize("folder", ["", "AudioWAV"])
    def test_rows(self, crema_d: Path, folder: str) -> None:
        [rows] = read(f"crema_d_votes={crema_d / folder}")
        found = {Path(name).name: row for name, row in by_name(rows).items() if row["copy_of"] is None}
        assert {name: (row["emotion"], row["intended"], row["speaker"]) for name, row in found.items()} == {
            "1001_DFA_ANG_XX": ("disgust", "angry", "crema_d_votes_1001"),
            "1001_IEO_NEU_XX": ("no_agreement", "neutral", "crema_d_votes_1001"),
            "1002_DFA_SAD_XX": ("sad", "sad", "crema_d_votes_1002"),
        }
        [intended] = read(f"crema_d={crema_d / folder}")
        assert set(intended["emotion"][:]) == {"angry", "neutral", "sad"}

    def test_label_source_chooses_the_labels(self, crema_d: Path) -> None:
        both = [f"crema_d={crema_d}", "tess=T"]
        assert labelled_by(both, "intended") == both
        assert labelled_by(both, "multimodal_vote") == [f"crema_d_votes={crema_d}", "tess=T"]
        arguments = DataArguments(corpora=both, label_source="multimodal_vote")
        assert arguments.corpora == [f"crema_d_votes={crema_d}", "tess=T"]
        assert DataArguments(corpora=arguments.corpora, label_source="multimodal_vote") == arguments
        assert DataArguments(corpora=both).corpora == both

    def test_label_source_in_the_counting_script(self, crema_d: Path, run_script: Callable[..., object]) -> None:
        done = run_script("corpora", f"crema_d={crema_d}", "--label_source", "multimodal_vote")
        assert "crema_d_votes" in done.stdout  # type: ignore[attr-defined]
        assert "no_agreement" in done.stdout  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("corpora", "source", "message"),
        [
            (["tess=T"], "multimodal_vote", "only crema_d has such labels"),
            (["crema_d=C"], "voice", "'voice' is none of intended, multimodal_vote"),
        ],
    )
    def test_a_label_source_that_is_not_there(self, corpora: list[str], source: str, message: str) -> None:
        with pytest.raises(CorpusError, match=message):
            DataArguments(corpora=corpora, label_source=source)

    def test_both_labels_at_once(self, crema_d: Path) -> None:
        with pytest.raises(CorpusError, match="are the same clips"):
            read_corpora([f"crema_d={crema_d}", f"crema_d_votes={crema_d}"])

    def test_a_clip_that_nobody_voted_on_has_no_emotion(self, crema_d: Path, write_clip: Write) -> None:
        write_clip(crema_d / "AudioWAV/1003_DFA_SAD_XX.wav")
        [rows] = read(f"crema_d_votes={crema_d}")
        assert by_name(rows)["AudioWAV/1003_DFA_SAD_XX"]["emotion"] == ""

    def test_no_table(self, crema_d: Path) -> None:
        shutil.rmtree(crema_d / "processedResults")
        with pytest.raises(CorpusError, match="crema_d_votes: no summaryTable.csv at, below or beside"):
            read(f"crema_d_votes={crema_d}")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("FileName,VoiceVote\n1001_DFA_ANG_XX,N\n", "has no column MultiModalVote; found FileName, VoiceVote"),
            (VOTES + '"1","1001_DFA_ANG_XX","N"\n', r"summaryTable\.csv, line 2: no file name or no vote"),
            (
                "FileName,MultiModalVote\n1001_DFA_ANG_XX,N\n1001_DFA_ANG_XX,A\n",
                "line 3: 1001_DFA_ANG_XX has the vote A, and N above",
            ),
        ],
    )
    def test_a_malformed_table(self, crema_d: Path, text: str, message: str) -> None:
        (crema_d / "processedResults/summaryTable.csv").write_text(text, encoding="utf-8")
        with pytest.raises(CorpusError, match=message):
            read(f"crema_d_votes={crema_d}")
