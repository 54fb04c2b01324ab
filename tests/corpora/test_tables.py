"""Corpora whose labels are in tables: IEMOCAP, MSP-Improv, MSP-Podcast and CREMA-D by votes, their folds, and malformed tables."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from small_files import write_clip

from hf_ser import splits
from hf_ser.clips import load_corpora, without_audio
from hf_ser.corpora import ABOUT, CorpusError, labelled_by, read, read_corpora
from hf_ser.emotions import DIMENSIONS
from hf_ser.splits import official_split, shared_speakers, speaker_folds
from hf_ser.training import ScriptArguments
from hf_ser.training.data import load_splits

PEFT_SER = ["neutral", "happy", "sad", "angry"]
OTHERS = ("disgust", "fear", "frustrated", "no_agreement", "other", "surprise")


IEMOCAP = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
IMPROV = "Evalution.txt"
PODCAST = "Labels/labels_consensus.csv"
SUMMARY = "processedResults/summaryTable.csv"


# IEMOCAP

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"


def turn(name: str, code: str, start: float = 6.2901) -> str:
    """A turn as EmoEvaluation has it: the label, then each annotator's categories and attributes, then a gap."""
    return (
        f"[{start:.4f} - {start + 1.9456:.4f}]\t{name}\t{code}\t[2.5000, 2.5000, 2.5000]\n"
        "C-E2:\tNeutral;\t()\nC-E3:\tNeutral; Anger;\t()\nC-E4:\tOther;\t([sic] upset)\nC-F1:\tNeutral;\t(curious)\n"
        "A-E3:\tval 3; act 2; dom  2;\t()\nA-E4:\tval 2; act 3; dom  3;\t(mildly aggravated, staying polite)\n\n"
    )


@pytest.fixture
def iemocap(tmp_path: Path) -> Path:
    """Five sessions of two dialogues; the first has each code, all have hidden files and annotators' own folders."""
    root = tmp_path / "IEMOCAP_full_release"
    codes = ("neu", "ang", "sad", "hap", "exc", "fru", "fea", "sur", "dis", "oth", "xxx")
    for session in range(1, 6):
        evaluations = root / f"Session{session}/dialog/EmoEvaluation"
        (evaluations / "Categorical").mkdir(parents=True)
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
            for name in names:
                write_clip(root / f"Session{session}/sentences/wav/{dialog}/{name}.wav")
            (root / f"Session{session}/sentences/wav/{dialog}/._{names[0]}.wav").write_bytes(b"\x00")
            write_clip(root / f"Session{session}/dialog/wav/{dialog}.wav")
    return root


# MSP-Improv


def block(name: str, code: str, attributes: str = "A:2.800000; V:3.200000; D:3.000000 ; N:4.400000;") -> str:
    """A clip as Evalution.txt has it: the label and the mean attributes, then each rater's line, then a gap."""
    return (
        f"UTD-IMPROV-{name}.avi; {code}; {attributes}\n"
        "117-p2; Neutral; Neutral; A:3.000000; V:3.000000; D:3.000000; N:5.000000;\n"
        "GE_0042-p1; Angry; Angry,Frustrated,Other:upset; A:2.000000; V:4.000000; D:3.000000; N:4.000000;\n\n"
    )


@pytest.fixture
def msp_improv(tmp_path: Path) -> Path:
    """Six sessions; each speaker in all four conditions, and in the first session two clips of no and of other emotion."""
    labels = [("S10N-F01-S-MF03", "X"), ("S10N-M01-S-MF04", "O")]
    for session in range(1, 7):
        for speaker in (f"F0{session}", f"M0{session}"):
            labels += [
                (f"S01A-{speaker}-P-FM01", "N"),
                (f"S05H-{speaker}-T-MF01", "H"),
                (f"S01A-{speaker}-R-{speaker[0] * 2}01", "A"),
                (f"S20S-{speaker}-S-FM12", "S"),
            ]
    root = tmp_path / "MSP-IMPROV"
    for name, _ in labels:
        sentence, speaker, condition, _ = name.split("-")
        write_clip(root / f"Audio/session{speaker[2]}/{sentence}/{condition}/MSP-IMPROV-{name}.wav")
    (root / "Evalution.txt").write_text("".join(block(*label) for label in labels), encoding="utf-8")
    return root


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


@pytest.fixture
def msp_podcast(tmp_path: Path) -> Path:
    root = tmp_path / "MSP-PODCAST"
    (root / "Labels").mkdir(parents=True)
    for line in LINES:
        write_clip(root / "Audios" / line.partition(",")[0])
    (root / PODCAST).write_text("\n".join([COLUMNS, *LINES]) + "\n", encoding="utf-8")
    (root / "Labels/labels_detailed.csv").write_text("FileName,Worker\n", encoding="utf-8")
    return root


# CREMA-D by votes

VOTES = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'


@pytest.fixture
def crema_d_votes(tmp_path: Path) -> Path:
    root = tmp_path / "CREMA-D"
    for name in ("1001_DFA_ANG_XX", "1001_IEO_NEU_XX", "1002_DFA_SAD_XX", "1003_DFA_SAD_XX", "1076_MTI_SAD_XX"):
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


@pytest.mark.parametrize(
    ("corpus", "emotions", "row"),
    [
        # Excitement counts as happiness. The speaker is in the last part of the name; the dialogue's letter is another's.
        ("iemocap", {**dict.fromkeys(PEFT_SER, 10), **dict.fromkeys(OTHERS, 1)}, {
            "clip": "iemocap/Ses04M_script03_2_F001", "emotion": "sad", "speaker": "iemocap_Ses04F", "gender": "female",
            "session": "iemocap_Session4", "split": None, "kind": "scripted",
            # The evaluators' own judgements: not the actor's (C-F1), and one of them is undecided between two emotions.
            "arousal": 2.5, "valence": 2.5, "dominance": 2.5, "votes": ["neutral", "angry+neutral", "other"],
            "arousal_ratings": [2, 3], "valence_ratings": [3, 2], "dominance_ratings": [2, 3],
        }),
        ("msp_improv", {**dict.fromkeys(PEFT_SER, 12), "no_agreement": 1, "other": 1}, {
            "clip": "msp_improv/IMPROV-S05H-M03-T-MF01", "emotion": "happy", "speaker": "msp_improv_M03", "gender": "male",
            "session": "msp_improv_session3", "split": None, "condition": "target", "statement": "S05",
            "arousal": 2.8, "valence": 3.2, "dominance": 3.0, "votes": ["neutral", "angry"],
            "arousal_ratings": [3, 2], "valence_ratings": [3, 4], "dominance_ratings": [3, 3],
        }),
        ("msp_podcast", {"neutral": 3, "happy": 3, **dict.fromkeys(
            ("angry", "contempt", "disgust", "no_agreement", "other", "sad", "surprise"), 1)}, {
            "clip": "msp_podcast/MSP-PODCAST_0001_0009", "emotion": "happy", "speaker": "msp_podcast_30", "gender": "male",
            "session": None, "split": "test", "split_set": "Test1",
            "arousal": 3.777778, "valence": 3.555556, "dominance": 3.777778,
        }),
        # Of a clip and its copy, one is used. A clip without votes has no emotion.
        ("crema_d_votes", {"disgust": 2, "no_agreement": 1, "sad": 1, "": 1}, {
            "clip": "crema_d_votes/AudioWAV/1001_DFA_ANG_XX", "emotion": "disgust", "speaker": "crema_d_votes_1001",
            "gender": None, "session": None, "split": None, "intended": "angry", "level": "unspecified", "statement": "DFA",
            "votes": ["neutral", "disgust", "disgust"],
            "copy_of": "crema_d_votes/AudioMP3/1001_DFA_ANG_XX",
        }),
    ],
)  # fmt: skip
def test_rows(request: pytest.FixtureRequest, corpus: str, emotions: dict[str, int], row: dict[str, Any]) -> None:
    root = request.getfixturevalue(corpus)
    [rows] = read(f"{corpus}={root}")
    [above] = read(f"{corpus}={root.parent}")
    assert [path["path"] for path in above["audio"]] == [path["path"] for path in rows["audio"]]
    assert Counter(rows["emotion"][:]) == emotions
    assert set(emotions) - {"", "no_agreement"} <= set(ABOUT[corpus].emotions)
    found = rows[rows["clip"][:].index(row["clip"])]
    assert found.pop("audio")["path"].endswith(f"{row['clip'].rpartition('/')[2]}.wav")
    for name in DIMENSIONS:
        assert found.pop(name, None) == pytest.approx(row.pop(name, None))
    assert found == {"corpus": corpus, "copy_of": None, **row}
    assert all(Path(row["audio"]["path"]).is_file() for row in rows)


@pytest.mark.parametrize(("corpus", "sessions"), [("iemocap", 5), ("msp_improv", 6)])
def test_folds(request: pytest.FixtureRequest, corpus: str, sessions: int) -> None:
    """Section V.A: session k is the test part, the last of the others validates."""
    [rows] = read(f"{corpus}={request.getfixturevalue(corpus)}")
    names = sorted(set(rows["session"][:]))
    assert len(names) == sessions
    folds = speaker_folds(without_audio(rows), by="session")
    assert len(folds) == sessions
    for fold, parts in enumerate(folds):
        found = {part: set(clips["session"]) for part, clips in parts.items()}
        assert found["test"] == {names[fold]}
        assert found["validation"] == {names[-2 if fold == sessions - 1 else -1]}
        assert len(found["train"]) == sessions - 2
        assert not shared_speakers(parts)


@pytest.mark.parametrize(
    ("corpus", "split", "emotions", "left_out", "sizes"),
    [
        ("iemocap", "kfold", PEFT_SER, dict.fromkeys(OTHERS, 1), (24, 8, 8)),
        ("msp_improv", "kfold", PEFT_SER, {"no_agreement": 1, "other": 1}, (32, 8, 8)),
        ("msp_podcast", "official", ["neutral", "happy"],
         dict.fromkeys(("angry", "contempt", "disgust", "no_agreement", "other", "sad", "surprise"), 1), (2, 2, 2)),
    ],
)  # fmt: skip
def test_a_run_excludes_other_emotions(
    request: pytest.FixtureRequest,
    corpus: str, split: str, emotions: list[str], left_out: dict[str, int], sizes: tuple[int, ...],
) -> None:  # fmt: skip
    arguments = ScriptArguments(
        corpora=[f"{corpus}={request.getfixturevalue(corpus)}"], emotions=emotions, split=split, prepare_workers=1,
        **({"fold_by": "session"} if split == "kfold" else {}),
    )  # fmt: skip
    parts = load_splits(arguments, 400)
    assert parts["train"].info.left_out == left_out
    assert tuple(len(parts[part]) for part in ("train", "validation", "test")) == sizes
    assert not parts["train"].info.excluded
    assert not splits.check(parts)


def test_an_unknown_code_is_kept(iemocap: Path) -> None:
    (iemocap / IEMOCAP).write_text(HEADER + turn("Ses01F_impro01_F000", "bor"), encoding="utf-8")
    [rows] = read(f"iemocap={iemocap}")
    assert rows["emotion"][rows["clip"][:].index("iemocap/Ses01F_impro01_F000")] == "bor"


@pytest.mark.parametrize("layout", ["Evaluation.txt", "no Audio folder", "wav in the label", "no attributes"])
def test_other_layouts_of_msp_improv(msp_improv: Path, layout: str) -> None:
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
    if layout == "no attributes":  # the mean of the raters' is there in their place
        assert (rows["valence"][0], other["valence"][0]) == (pytest.approx(3.2), 3.5)
        rows, other = rows.remove_columns(["arousal", "valence"]), other.remove_columns(["arousal", "valence"])
    assert rows.remove_columns("audio")[:] == other.remove_columns("audio")[:]
    assert all(Path(row["audio"]["path"]).is_file() for row in other)


def test_the_parts_of_msp_podcast(msp_podcast: Path) -> None:
    (msp_podcast / "Audios").rename(msp_podcast / "Audio")  # its older name
    (msp_podcast / PODCAST).rename(msp_podcast / "Labels/labels_concensus.csv")
    [rows] = read(f"msp_podcast={msp_podcast}")
    assert [(row["emotion"], row["speaker"], row["gender"], row["split"]) for row in rows][4:] == [
        ("contempt", "msp_podcast_7", "female", "train"),
        ("angry", None, None, "train"),
        ("sad", None, "female", "train"),
        ("neutral", "msp_podcast_12", "female", "validation"),
        ("happy", "msp_podcast_12", "female", "validation"),
        ("no_agreement", "msp_podcast_12", "female", "validation"),
        ("surprise", "msp_podcast_30", "male", "test2"),
        ("other", "msp_podcast_30", "male", "test3"),
        ("disgust", None, None, "test2"),
    ]


def test_msp_podcast_has_three_test_parts_and_clips_of_unknown_speakers(msp_podcast: Path) -> None:
    [rows] = read(f"msp_podcast={msp_podcast}")
    parts = official_split(without_audio(rows))
    assert {part: len(clips) for part, clips in parts.items()} == {
        "train": 5, "validation": 3, "test": 2, "test2": 2, "test3": 1,
    }  # fmt: skip
    assert [speaker is None for speaker in parts["test2"]["speaker"]] == [False, True]
    described = splits.describe(parts)
    assert [described[f"speakers_shared_by_train_and_{part}"] for part in ("test", "test2", "test3")] == [0, 0, 0]
    assert described["parts"]["test2"]["clips_without_speaker"] == 1


def test_peft_ser_leaves_clips_of_unknown_speakers_out(msp_podcast: Path, caplog: pytest.LogCaptureFixture) -> None:
    [rows] = read(f"msp_podcast_known_speakers={msp_podcast}")
    assert Counter(rows["emotion"][:])["unknown_speaker"] == 3
    assert caplog.messages == [
        "msp_podcast_known_speakers: 3 of 13 clips have an unknown speaker: their emotion is replaced by unknown_speaker"
    ]


def test_the_codes_of_msp_podcast(msp_podcast: Path) -> None:
    lines = [f"{code}.wav,{code},4,4,4,1,Male,Train" for code in "ACDFHNOSUX"]
    (msp_podcast / PODCAST).write_text("\n".join([COLUMNS, *lines]), encoding="utf-8")
    [rows] = read(f"msp_podcast={msp_podcast}")
    assert " ".join(rows["emotion"][:]) == ("angry contempt disgust fear happy neutral other sad surprise no_agreement")


class TestCREMADByVotes:
    def test_table_iii_comes_out_of_the_true_votes(self, shared: Path, tmp_path: Path) -> None:
        for name in (
            "file-lists/CREMA-D.txt",
            "crema-d/processedResults/summaryTable.csv",
            "crema-d/VideoDemographics.csv",
        ):
            shutil.copy(shared / "data" / name, tmp_path)
        [rows], [intended] = (read(f"{name}={tmp_path / 'CREMA-D.txt'}") for name in ("crema_d_votes", "crema_d"))
        assert Counter(rows["emotion"][:]) == {
            "neutral": 1972, "happy": 1219, "sad": 588, "angry": 1019, "disgust": 1139, "fear": 1084, "no_agreement": 420,
        }  # fmt: skip
        gender = dict(zip(rows["speaker"][:], rows["gender"][:], strict=True))
        assert Counter(gender.values()) == {"female": 43, "male": 48}
        # The winners of voice, face and both; a tie is a vote for each.
        winners = ["no_agreement" if "+" in votes[2] else votes[2] for votes in rows["votes"][:]]
        assert winners == rows["emotion"][:]
        clip = intended[intended["clip"][:].index("crema_d/1001_IEO_HAP_LO")]
        assert (clip["emotion"], clip["votes"]) == ("happy", ["neutral", "happy", "happy"])

    def test_the_table_of_actors_is_optional(
        self, shared: Path, crema_d_votes: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        [rows] = read(f"crema_d={crema_d_votes}")
        assert set(rows["gender"][:]) == {None}
        assert "crema_d: no VideoDemographics.csv below or beside" in caplog.text
        shutil.copy(shared / "data/crema-d/VideoDemographics.csv", crema_d_votes)
        for root in (crema_d_votes.parent, crema_d_votes, crema_d_votes / "AudioWAV"):
            [rows] = read(f"crema_d={root}")
            speakers = dict(zip(rows["speaker"][:], rows["gender"][:], strict=True))
            assert (speakers["crema_d_1001"], speakers["crema_d_1002"]) == ("male", "female")

    def test_the_script_counts_clips(
        self, crema_d_votes: Path, run_script: Callable[..., CompletedProcess[str]]
    ) -> None:
        printed = run_script("corpora", f"crema_d={crema_d_votes}", "--label_source", "multimodal_vote").stdout
        copies = "not counted: copies by name, such as crema_d_votes/AudioWAV/1001_DFA_ANG_XX of crema_d_votes/AudioMP3/1001_DFA_ANG_XX"
        lines = printed.splitlines()
        lines.remove(f"crema_d_votes: 1 file {copies}")
        assert [line.split() for line in lines] == [
            ["emotion", "crema_d_votes", "all"],
            *([emotion, "1", "1"] for emotion in ("disgust", "sad", "(none)", "no_agreement")),
            ["all", "4", "4"],
            [],
            ["corpus", "speakers", "female", "male", "unknown"],
            ["crema_d_votes", "3", "0", "0", "3"],
        ]

    def test_label_source_chooses_the_labels(self, crema_d_votes: Path) -> None:
        both = [f"crema_d={crema_d_votes}", "tess=T"]
        assert labelled_by(both, "intended") == both
        assert labelled_by(both, "multimodal_vote") == [f"crema_d_votes={crema_d_votes}", "tess=T"]
        arguments = ScriptArguments(corpora=both, label_source="multimodal_vote")
        assert arguments.corpora == [f"crema_d_votes={crema_d_votes}", "tess=T"]
        assert ScriptArguments(corpora=arguments.corpora, label_source="multimodal_vote") == arguments
        assert ScriptArguments(corpora=both).corpora == both

    @pytest.mark.parametrize(
        ("corpora", "source", "message"),
        [
            (["tess=T"], "multimodal_vote", "only crema_d has such labels"),
            (["crema_d=C"], "voice", "label_source: expected intended or multimodal_vote, found 'voice'"),
        ],
    )
    def test_a_label_source_that_is_not_there(self, corpora: list[str], source: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ScriptArguments(corpora=corpora, label_source=source)

    def test_both_labels_at_once(self, crema_d_votes: Path) -> None:
        with pytest.raises(CorpusError, match="are the same clips"):
            read_corpora([f"crema_d={crema_d_votes}", f"crema_d_votes={crema_d_votes}"])


class TestRaters:
    @pytest.mark.parametrize(
        ("corpus", "votes"),
        [("crema_d", ["happy"] * 3 + ["neutral"] * 6), ("crema_d_votes", ["angry", "happy", "happy"])],
    )
    def test_counts_of_crema_d(self, crema_d_votes: Path, corpus: str, votes: list[str]) -> None:
        """The layout of tabulatedVotes.csv: 1 for the voice, 2 for the face, 3 for both, and the number of the clip."""
        (crema_d_votes / "processedResults/tabulatedVotes.csv").write_text(
            '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"\n'
            '"100002",0,0,0,3,6,0,"1001_IEO_NEU_XX",9,0.666666666666667,"N"\n'
            '"200002",0,1,0,7,0,0,"1001_IEO_NEU_XX",8,0.875,"H"\n'
            '"300002",1,0,0,2,0,0,"1001_IEO_NEU_XX",3,0.666666666666667,"H"\n',
            encoding="utf-8",
        )
        [rows] = read(f"{corpus}={crema_d_votes}")
        assert rows["votes"][rows["clip"][:].index(f"{corpus}/AudioWAV/1001_IEO_NEU_XX")] == votes

    @pytest.mark.parametrize(
        "detailed",
        [
            "FileName,Workers,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom\n"
            '{0},WORKER00000001,Angry,"Angry,Annoyed",5,2,6\n{0},WORKER00000002,Other-puzzled,Confused,4,3,NaN\n',
            "FileName,EmoDetail\n"
            '"{0}","WORKER00000001; Angry; Angry,Annoyed; A:5.000000; V:2.000000; D:6.000000;"\n'
            "{0},WORKER00000002; Other-puzzled; Confused; A:4.000000; V:3.000000; D:NaN;\n",
        ],
    )
    def test_those_of_msp_podcast(self, msp_podcast: Path, detailed: str) -> None:
        table = msp_podcast / "Labels/labels_detailed.csv"
        table.write_text(detailed.format("MSP-PODCAST_0001_0008.wav"), encoding="utf-8")
        row = read(f"msp_podcast={msp_podcast}")[0][0]
        assert row["votes"] == ["angry", "other_puzzled"]
        assert [row[f"{name}_ratings"] for name in DIMENSIONS] == [[5, 4], [2, 3], [6]]
        assert [row[name] for name in DIMENSIONS] == pytest.approx([2.2, 4.0, 2.6])

    def test_those_of_emozionalmente(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "audio/16.wav")
        (tmp_path / "metadata").mkdir()
        for name, text in {
            "samples": "file_name,timestamp,actor,sentence,emotion_expressed\n16.wav,1,anna,Ciao,joy\n",
            "evaluations": "file_name,evaluator,audio_quality,emotion_recognized\n16.wav,bo,good,neutrality\n16.wav,cy,good,joy\n",
        }.items():
            (tmp_path / f"metadata/{name}.csv").write_text(text, encoding="utf-8")
        assert read(f"emozionalmente={tmp_path}")[0]["votes"][:] == [["neutral", "happy"]]

    def test_those_of_iemocap_as_others_show_them(self, iemocap: Path, caplog: pytest.LogCaptureFixture) -> None:
        (iemocap / IEMOCAP).write_text(
            HEADER + "[140.2250 - 145.6000]\tSes01F_impro01_F000\tang\t[1.5000, 4.0000, 4.5000]\n"
            "C-E1:\tAnger;\t()\nC-E2:\tNeutral state; Frustration;\t()\nC-E3:\tExcited;\t()\nC-F1:\tSadness;\t()\n"
            "A-E3:\tval 2; act 4; dom  4;\t()\nA-E4:\tval 1; act ; dom  5;\t(threatening, belligerent)\nA-E5:\tval 1\n"
            "A-F1:\tval 1; act 5; dom  5;\t()\n\n"
            "[150.0 - 151.0]\tSes01F_impro01_M000\txxx\t[5.5000, 4.0000, 4.5000]\nC-E1:\tOther;\t()\n",
            encoding="utf-8",
        )
        [rows] = read(f"iemocap={iemocap}")
        assert "1 lines of raters are ignored. line 10: 'A-E5:\\tval 1' is not a label as in the release" in caplog.text
        assert rows["votes"][:2] == [["angry", "frustrated+neutral", "happy"], ["other"]]
        assert rows["valence_ratings"][0] == [2, 1]
        assert rows["arousal_ratings"][0] == [4]
        clips = load_corpora([f"iemocap={iemocap}"], ["angry", "neutral"], targets=["arousal", "valence"])
        # A value outside the scale, which nobody can correct in a release, is none.
        assert clips["valence"][:2] == [0.125, None]
        assert clips["arousal"][:2] == [0.75, 0.75]
        assert "iemocap: 1 clips have no valence, as theirs is outside 1 to 5" in caplog.text


class TestBadTables:
    """Each is an error that has the file, the line, and what was expected."""

    @pytest.mark.parametrize(
        ("corpus", "table", "text", "message"),
        [
            *(
                ("iemocap", IEMOCAP, HEADER + line + "\n", r"impro01\.txt, line 3: .* is not a label")
                for line in (
                    "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu",
                    "[6.2901 - 8.2357]\tSes01F_impro01\tneu\t[2.5000, 2.5000, 2.5000]",
                    "[6.2901 - 8.2357]\tSes01F_impro01_F000\t[2.5000, 2.5000, 2.5000]",
                    "[6.2901]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]",
                )
            ),
            ("iemocap", "Session1/dialog/EmoEvaluation/Ses01F_impro02.txt", turn("Ses01M_script03_2_F000", "ang"),
             r"script03_2\.txt, line 3: .*ses01m_script03_2_f000 differs from .*impro02\.txt, line 1; remove one of them"),
            *(
                ("msp_improv", IMPROV, block("S01A-F01-P-FM01", "N") + line + "\n", r"line 5: .* is not a label")
                for line in (
                    "UTD-IMPROV-S01A-F01-P-FM01.avi",
                    "UTD-IMPROV-S01A-F01-P-FM01.avi; ; A:2.8;",
                    "UTD-IMPROV-S01A-F07-P-FM01.avi; N; A:2.8;",
                    "UTD-IMPROV-S01A-F01-Q-FM01.avi; N; A:2.8;",
                )
            ),
            ("msp_improv", IMPROV, block("S01A-F01-P-FM01", "N") + block("S01A-F01-P-FM01", "A"),
             "line 5: improv-s01a-f01-p-fm01 differs from .*line 1"),
            ("msp_improv", IMPROV, "\n", r"no label in .*Evalution\.txt"),
            *(
                ("msp_podcast", PODCAST, "\n".join([COLUMNS, *LINES, line]), f"csv, line 15: {message}")
                for line, message in (
                    ("a.wav,N,2.2,4.0", "the fields do not fit the columns FileName, "),
                    ("a.wav,N,2.2,4.0,2.6,30,Male,Test1,more", "the fields do not fit the columns"),
                    ("a.wav,,2.2,4.0,2.6,30,Male,Test1", "no emotion"),
                    (LINES[0].replace(",N,", ",H,"), "msp-podcast_0001_0008 differs from .*line 2"),
                )
            ),
            ("msp_podcast", PODCAST, "FileName,EmoClass\na.wav,N\n",
             "has no column SpkrID, Gender, Split_Set, EmoAct, EmoVal, EmoDom; found FileName, EmoClass"),
            ("msp_podcast", PODCAST, COLUMNS + "\n", "no label in"),
            ("crema_d_votes", SUMMARY, "FileName,VoiceVote\n1001_DFA_ANG_XX,N\n",
             "has no column MultiModalVote; found FileName, VoiceVote"),
            ("crema_d_votes", SUMMARY, VOTES + "1,1001_DFA_ANG_XX,N\n", "line 2: the fields do not fit"),
            ("crema_d_votes", SUMMARY, "FileName,MultiModalVote\n1001_DFA_ANG_XX,\n", "line 2: no emotion"),
            ("crema_d_votes", SUMMARY, "FileName,MultiModalVote\n1001_DFA_ANG_XX,N\n1001_DFA_ANG_XX,A\n",
             "line 3: 1001_dfa_ang_xx differs from .*line 2"),
        ],
    )  # fmt: skip
    def test_malformed(self, request: pytest.FixtureRequest, corpus: str, table: str, text: str, message: str) -> None:
        root = request.getfixturevalue(corpus)
        (root / table).write_text(text, encoding="utf-8")
        with pytest.raises(CorpusError, match=message):
            read(f"{corpus}={root}")

    @pytest.mark.parametrize(
        ("corpus", "tables", "audio", "missing", "looked_for"),
        [
            ("iemocap", "Session*/dialog/EmoEvaluation", "Session*/sentences", "no Session.*EmoEvaluation/.*", "Session1/dialog"),
            ("msp_improv", "Evalution.txt", "Audio", "no Evaluation.txt", "Evalution.txt and Audio.*found Audio"),
            ("msp_podcast", "Labels", "Audios", "no Labels/labels_con.*", "Labels/labels_consensus.csv.*found Audios"),
            ("crema_d_votes", "processedResults", "Audio*", "no processedResults/summaryTable.csv", "AudioWAV/1001"),
        ],
    )  # fmt: skip
    def test_missing(
        self, request: pytest.FixtureRequest, corpus: str, tables: str, audio: str, missing: str, looked_for: str
    ) -> None:
        root = request.getfixturevalue(corpus)
        for path in root.glob(tables):
            path.unlink() if path.is_file() else shutil.rmtree(path)
        with pytest.raises(CorpusError, match=f"{corpus}: {missing} below .*Looked for names such as {looked_for}"):
            read(f"{corpus}={root}")
        for path in root.glob(audio):
            shutil.rmtree(path)
        with pytest.raises(CorpusError, match=f"{corpus}: no clip of it below .*found"):
            read(f"{corpus}={root}")
        with pytest.raises(CorpusError, match=f"{corpus}: there is no folder .*nowhere"):
            read(f"{corpus}={root / 'nowhere'}")

    @pytest.mark.parametrize(
        ("corpus", "clip"),
        [
            ("iemocap", "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000"),
            ("msp_improv", "Audio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01"),
            ("msp_podcast", "Audios/MSP-PODCAST_0001_0008"),
        ],
    )
    def test_audio_and_labels_that_do_not_match(
        self, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, corpus: str, clip: str
    ) -> None:
        """A label without audio is a clip that cannot be read, and audio without a label is in the log."""
        root = request.getfixturevalue(corpus)
        [before] = read(f"{corpus}={root}")
        gone = root / f"{clip}.wav"
        gone.rename(root / f"{clip}9.wav")
        with caplog.at_level(logging.WARNING):
            [rows] = read(f"{corpus}={root}")
        assert rows["clip"][:] == before["clip"][:]
        assert sum(not Path(row["audio"]["path"]).is_file() for row in rows) == 1
        assert f"1 audio files have no label, for instance {gone.stem}9" in caplog.text
