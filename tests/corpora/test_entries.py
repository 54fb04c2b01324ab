"""Each corpus in the layout of its release, its facts, and corpora that a user describes."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from hf_ser.corpora import ABOUT, CORPORA, LEFT_OUT, About, CorpusError, read
from hf_ser.emotions import EMOTIONS

# fmt: off
#: For each corpus some files of its release: a clip with its emotion, speaker and gender, a file that is no clip (none), and the
#: text of a table. Those of `WITH_TABLES` are in test_tables.py.
RELEASES: dict[str, dict[str, str | None]] = {
    "aesdd": {
        "anger/a03 (3).wav": "angry 3 -",
        "disgust/d03 (5)b.wav": "disgust 5 -",
        "sadness/s05(06).wav": "sad 6 -",
        "disgust/d03.wav": None,
    },
    "ased": {"05Angry/a5-02-01-01-33.wav": "angry 33 female", "03Happy/h3-07-02-02-50.wav": "happy 50 male"},
    "banglaser": {
        "BanglaSER/Actor 01/03-01-01-02-03-01-01.wav": "happy 01 male",
        "BanglaSER/Actor 34/03-01-05-01-01-03-34.wav": "neutral 34 female",
    },
    "cafe": {
        "CaFE_48k/Peur/Fort/12-P-2-5.wav": "fear 12 female",
        "CaFE_48k/Neutre/01-N-1-1.wav": "neutral 01 male",
        "CaFE_48k/Colère/Faible/03-C-1-6.wav": "angry 03 male",
    },
    "crema_d": {
        "AudioWAV/1001_DFA_ANG_XX.wav": "angry 1001 male",
        "AudioWAV/1002_IEO_FEA_HI.wav": "fear 1002 female",
        "VideoDemographics.csv": "ActorID,Age,Sex\n1001,51,Male\n1002,21,Female\n",
    },
    "emodb": {"wav/03a01Fa.wav": "happy 03 male", "wav/16b10Lb.wav": "boredom 16 female", "lablaut/03a01Fa.lablaut": None},
    "emodb2": {"wav/03a01Fa.wav": "happy 03 male", "wav/08a07Ab.wav": "fear 08 female"},
    "emov_db": {
        "jenie_Amused/amused_57-84_0057.wav": "amused jenie female",
        "sam/Sleepy/sleepiness_1-28_0011.wav": "sleepy sam male",
        "bea_Disgusted/disgust_1-28_0001.wav": "disgust bea female",
    },
    "emovo": {"f2/gio-f2-b2.wav": "happy f2 female", "m1/rab-m1-n5.wav": "angry m1 male", "m1/neu-m1-d1.wav": "neutral m1 male"},
    "emozionalmente": {
        "audio/1613655062436.wav": "neutral anna female",
        "audio/1619253465089.wav": "happy bo -",
        "metadata/samples.csv": "file_name,timestamp,actor,sentence,emotion_expressed\n"
        '1613655062436.wav,1,anna,"Vorrei, grazie",neutrality\n1619253465089.wav,2,bo,Ciao,joy\n',
        "metadata/users.csv": "username,age,gender,mother_tongue\nanna,30,f,it\nbo,20,other,it\n",
    },
    "enterface": {
        "subject 19/anger/sentence 4/s19_an_4.wav": "angry 19 -",
        "subject 11/surprise/sentence 1/s12_su_1.wav": "surprise 11 -",
        "subject 6/fear/s6_fe_1.wav": "fear 6 -",
        "subject 3/sadness/sentence 2/s_3_sa_2.wav": "sad 3 -",
        "subject 16/surprise/sentence 3/s16_su_3avi.wav": "surprise 16 -",
    },
    "esd_english": {
        "0011/Angry/0011_000351.wav": "angry 0011 male",
        "0015/Surprise/train/0015_001421.wav": "surprise 0015 female",
        "0001/Angry/0001_000351.wav": None,
    },
    "esd_mandarin": {"0001/Sad/0001_001051.wav": "sad 0001 female", "0010/Neutral/test/0010_000001.wav": "neutral 0010 male"},
    "jl_corpus": {
        "JL(wav+txt)/male2_angry_12a_2.wav": "angry male2 male",
        "JL(wav+txt)/female1_apologetic_15b_2.wav": "apologetic female1 female",
    },
    "mead": {"M003/audio/angry/level_1/001.wav": "angry M003 male", "W009/audio/disgusted/level_3/027.wav": "disgust W009 female"},
    "meld": {
        "train/train_splits/dia0_utt0.wav": "neutral Chandler -",
        "dev_splits_complete/dia0_utt0.wav": "happy Mrs. Green -",
        "output_repeated_splits_test/dia0_utt0.wav": "surprise Joey -",
        "output_repeated_splits_test/final_videos_testdia0_utt0.wav": None,
        **{
            f"{part}_sent_emo.csv": "Sr No.,Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n" + line
            for part, line in (
                ("train", '1,"Yes, I",Chandler,neutral,0,0\n'), ("dev", "1,Hi,Mrs. Green,joy,0,0\n"),
                ("test", "1,What?,Joey,surprise,0,0\n2,Gone,Ross,fear,7,3\n"),
            )
        },
    },
    "mesd": {"Sadness_M_B_amenazado.wav": "sad - male", "Fear_C_A_basta_ya.wav": "fear - -", "Anger_F_A_si.wav": "angry - female"},
    "nemo": {
        "samples/SB0_anger_1.wav": "angry SB0 female",
        "samples/WR0_surprised_2.wav": "surprise WR0 male",
        "data.tsv": "file_id\temotion\traw_text\tspeaker_id\tgender\tage\n"
        "SB0_anger_1\tanger\tTak.\tSB0\tfemale\t21\nWR0_surprised_2.wav\tsurprised\tNie.\tWR0\tmale\t23\n",
    },
    "ravdess": {
        "Actor_01/03-01-05-01-01-01-01.WAV": "angry 01 male",
        "Actor_01/03-02-05-01-01-01-01.wav": None,  # song
        "film/Actor_01/01-01-05-01-01-01-01.wav": None,  # the same performance, from the film
        "film/Actor_02/01-01-06-01-01-01-02.wav": "fear 02 female",  # one that exists from the film only
        "film/Actor_01/02-01-07-01-01-01-01.wav": None,  # film without sound
    },
    "savee": {"DC/a01.wav": "angry DC male", "JE/su02.flac": "surprise JE male", "AudioData/KL_sa15.WAV": "sad KL male"},
    "shemo": {"female/F21N23.wav": "neutral F21 female", "male/M21F01.wav": "fear M21 male", "male/M12W07.wav": "surprise M12 male"},
    "subesco": {"F_10_FAHMEE_S_6_FEAR_5.wav": "fear F_10 female", "M_10_EVAN_S_10_HAPPY_2.wav": "happy M_10 male"},
    "synthetic": {"f01/f01_angry_00.wav": "angry f01 female", "m02/m02_calm_11.wav": "calm m02 male"},
    "tess": {
        "OAF_Fear/OAF_back_fear.wav": "fear OAF female",
        "OAF Pleasant_surprise/OAF_back_ps.wav": "surprise OAF female",
        "TESS Toronto/deep/YAF_x/YAF_dog_Sad.WAV": "sad YAF female",
        "OA_bite_neutral.wav": "neutral OAF female",
    },
    "turev_db": {"Sound Source/Calm/1984_sk_eger.wav": "calm 1984 -", "Sound Source/Angry/6783_kz_koku.wav": "angry 6783 -"},
    "urdu": {"Neutral/SM20_F8_N012.wav": "neutral SM20 male", "Angry/SF9_F1_A01.wav": "angry SF9 female"},
}
# fmt: on


WITH_TABLES = {"iemocap", "msp_improv", "msp_podcast", "msp_podcast_known_speakers", "crema_d_votes"}


@pytest.mark.parametrize("corpus", sorted(CORPORA.keys() - WITH_TABLES))
def test_the_layout_of_the_release(tmp_path: Path, corpus: str) -> None:
    root = tmp_path / "release"
    clips = {}
    for name, content in RELEASES[corpus].items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content if content and "\n" in content else "", encoding="utf-8")
        if content and "\n" not in content:
            clips[name] = content
    for given in (root, tmp_path):  # the folder of the corpus, and the one above
        [rows] = read(f"{corpus}={given}")
        found = {}
        for row in rows:
            who = (row["speaker"] or "-").removeprefix(f"{corpus}_")
            path = Path(row["audio"]["path"]).relative_to(root)
            found[path.as_posix()] = f"{row['emotion']} {who} {row['gender'] or '-'}"
        assert found == clips
    assert set(rows["emotion"][:]) <= set(ABOUT[corpus].emotions)


# HuBERT-SER, Table 2: clips per emotion, in the order of EMOTIONS.
TABLE_2 = {
    "crema_d": ("CREMA-D", (1271, 0, 1271, 1271, 1271, 1087, 1271, 0)),
    "ravdess": ("RAVDESS", (192, 192, 192, 192, 192, 96, 192, 192)),
    "savee": ("SAVEE", (60, 0, 60, 60, 60, 120, 60, 60)),
    "tess": ("TESS", (400, 0, 400, 400, 400, 400, 400, 400)),
}


@pytest.mark.parametrize("corpus", TABLE_2)
def test_table_2_comes_out_of_the_true_file_names(shared: Path, corpus: str) -> None:
    name, counts = TABLE_2[corpus]
    [rows] = read(f"{corpus}={shared / f'data/file-lists/{name}.txt'}")
    found = Counter(rows["emotion"][:])
    assert tuple(found[emotion] for emotion in EMOTIONS) == counts
    assert sum(sum(counts) for _, counts in TABLE_2.values()) == 12_162
    assert len(rows) == sum(counts) == ABOUT[corpus].clips
    assert len(set(rows["speaker"][:])) == ABOUT[corpus].speaker_count


def test_real_ravdess(shared: Path) -> None:
    [rows] = read(f"ravdess={shared / 'data/ravdess'}")
    assert len(rows) == 1080
    row = next(row for row in rows if row["clip"] == "ravdess/Actor_02/03-01-06-02-01-02-02")
    assert (row["emotion"], row["speaker"], row["gender"]) == ("fear", "ravdess_02", "female")
    assert (row["intensity"], row["statement"]) == ("strong", "Kids are talking by the door")


def test_real_emodb(shared: Path) -> None:
    [rows] = read(f"emodb={shared / 'data/emodb'}")
    assert Counter(rows["emotion"][:]) == {
        "angry": 127, "boredom": 81, "disgust": 46, "fear": 69, "happy": 71, "neutral": 79, "sad": 62,
    }  # fmt: skip
    speakers = dict(zip(rows["speaker"][:], rows["gender"][:], strict=True))
    assert Counter(speakers.values()) == {"female": 5, "male": 5}
    assert len(rows) == ABOUT["emodb"].clips


class TestFacts:
    @pytest.mark.parametrize("about", ABOUT.values(), ids=ABOUT.keys())
    def test_they_fit_into_a_card(self, about: About) -> None:
        for text in (about.name, about.licence, about.speech, about.speakers, about.layout):
            assert text == text.strip()
            assert not set(text) & set("|\n"), "would break a table"
            assert not text.endswith(".")
        assert about.licence_id is None or re.fullmatch(r"[a-z0-9.-]+", about.licence_id)
        assert about.language is None or re.fullmatch(r"[a-z]{2}", about.language)
        assert about.homepage is None or about.homepage.startswith(("https://", "http://"))
        assert about.emotions == sorted(set(about.emotions))
        if citation := about.citation:
            assert re.match(r"@(article|inproceedings|misc)\{[a-z0-9]+,\n", citation)
            assert citation.endswith("\n}")
            assert citation.count("{") == citation.count("}")
            for field in ("title", "author", "year"):
                assert re.search(rf"^  {field} = \{{", citation, re.MULTILINE), field

    def test_every_corpus_has_them(self) -> None:
        assert ABOUT.keys() == CORPORA.keys()
        assert {name for name, about in ABOUT.items() if not about.citation} == {"synthetic"}

    def test_licences_that_forbid_something_say_so(self) -> None:
        for about in ABOUT.values():
            identifier = about.licence_id or ""
            assert ("no commercial use" in about.licence) == ("-nc-" in identifier)
            assert ("no derivatives" in about.licence) == ("-nd-" in identifier)
            assert ("share alike" in about.licence) == ("-sa-" in identifier or identifier == "odbl")

    def test_labels_and_acting(self) -> None:
        for about in ABOUT.values():
            assert ("perceived" in about.speech) == (about.labels == "perceived")
            assert ("acted" in about.speech.replace("not acted", "")) == about.acted
            assert (about.text == "none") == (about.language is None)

    def test_a_corpus_that_is_left_out_has_a_reason(self) -> None:
        with pytest.raises(CorpusError, match="raw audio is no longer distributed.*write a manifest"):
            read("cmu_mosei=/data")
        assert list(LEFT_OUT) == ["cmu_mosei"]


MINE = r"""
pattern: (?P<speaker>(?P<gender>[fm])\d\d)_(?P<emotion>[a-z]+)_(?P<sentence>\d+)
example: f01_jo_3.wav
codes:
  emotion: {jo: happy, sa: sad}
columns: [sentence]
"""


class TestACorpusOfTheUsersOwn:
    def test_it_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text(MINE)
        for name in ("f01_jo_3.wav", "m02_anger_1.wav", "m02_anger_2.wav", "more/m02_anger_2.flac", "x.wav"):
            (tmp_path / "more").mkdir(exist_ok=True)
            (tmp_path / name).touch()
        [rows] = read(f"{tmp_path / 'mine.yaml'}={tmp_path}")
        columns = ("clip", "emotion", "speaker", "gender", "sentence", "copy_of")
        assert [tuple(row[column] for column in columns) for row in rows] == [
            ("mine/f01_jo_3", "happy", "mine_f01", "female", "3", None),
            ("mine/m02_anger_1", "angry", "mine_m02", "male", "1", None),
            ("mine/m02_anger_2", "angry", "mine_m02", "male", "2", None),
            ("mine/more/m02_anger_2", "angry", "mine_m02", "male", "2", "mine/m02_anger_2"),
        ]

    @pytest.mark.parametrize("folders", ["", r"(?P<speaker>[^/]+)/"])
    def test_a_folder_for_each_emotion(
        self, tmp_path: Path, folders: str, run_script: Callable[..., CompletedProcess[str]]
    ) -> None:
        """As docs/corpora.md has it. What the pattern does not tell apart are copies, and the count says so."""
        (tmp_path / "mine.yaml").write_text(f"pattern: {folders}(?P<emotion>[^/]+)/[^/]+\n")
        for name in ("anna/angry/1.wav", "anna/sad/2.wav", "ben/angry/1.wav"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        [rows] = read(f"{tmp_path / 'mine.yaml'}={tmp_path}")
        assert rows["emotion"][:] == ["angry", "sad", "angry"]
        assert rows["speaker"][:] == (["mine_anna", "mine_anna", "mine_ben"] if folders else [None] * 3)
        copies = "mine: 1 file not counted: copies by name, such as mine/ben/angry/1 of mine/anna/angry/1"
        assert (copies in run_script("corpora", f"{tmp_path / 'mine.yaml'}={tmp_path}").stdout) != bool(folders)

    def test_it_may_extend_a_known_one(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text("extends: emodb\ncodes:\n  emotion: {L: calm}\n")
        (tmp_path / "03a01La.wav").touch()
        [rows] = read(f"{tmp_path / 'mine.yaml'}={tmp_path}")
        assert (rows[0]["emotion"], rows[0]["gender"]) == ("calm", "male")

    def test_empty_lines_of_a_text_file_are_no_labels(self, tmp_path: Path) -> None:
        table = r"{file: labels\.txt, key: [clip], line: '(?P<clip>\w) (?P<emotion>\w+)'}"
        (tmp_path / "mine.yaml").write_text(f"pattern: (?P<clip>[ab])\ntables: [{table}]\n")
        (tmp_path / "labels.txt").write_text("a sad\n\nb happy\n")
        for name in ("a.wav", "b.wav"):
            (tmp_path / name).touch()
        [rows] = read(f"{tmp_path / 'mine.yaml'}={tmp_path}")
        assert rows["emotion"][:] == ["sad", "happy"]

    def test_a_field_that_a_clip_lacks_leaves_its_other_fields(self, tmp_path: Path) -> None:
        pattern = r"pattern: (?P<day>\d)?(?P<letter>[ab])_(?P<emotion>[a-z]+)"
        (tmp_path / "mine.yaml").write_text(pattern + '\ncompose: {session: "day{day}", speaker: "s{letter}"}\n')
        for name in ("a_sad.wav", "2b_sad.wav"):
            (tmp_path / name).touch()
        [rows] = read(f"{tmp_path / 'mine.yaml'}={tmp_path}")
        assert rows["speaker"][:] == ["mine_sb", "mine_sa"]
        assert rows["session"][:] == ["mine_day2", None]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("pattern: [", "cannot be read as YAML: while parsing.*line 2"),
            ("- a\n- b", "found .*expected fields such as 'pattern"),
            ("patern: a", "found patern, expected name, pattern, example"),
            ("pattern: (?P<emotion>a", "is not a regular expression: missing \\), unterminated subpattern"),
            (
                r"pattern: (?P<speaker>\d)_(?P<mood>\w+)",
                r"no field is called emotion: found mood and speaker\. Name it",
            ),
            (MINE + "male: '['", "'\\[' is not a regular expression"),
            (
                MINE.replace("[sentence]", "[word]"),
                "no field is called word: found emotion, gender, sentence and speaker",
            ),
            (MINE.replace("[sentence]", "sentence"), "columns: found 'sentence', expected a list"),
            (MINE.replace("{jo: happy, sa: sad}", "{01: happy}"), "codes of emotion: found 1; put quotes around codes"),
            (MINE.replace("sad}", "no}"), "codes of emotion: found False; put quotes around codes and meanings"),
            (MINE.replace("{jo: happy, sa: sad}", "happy"), "codes of emotion: found 'happy', expected a dict"),
            (MINE + "tables: [{file: a.csv}]", "tables: key missing; found file"),
            (MINE + "tables: 3", "tables: found 3, expected a list"),
            (MINE + "facts: {name: Mine}", "facts: acted, labels, .* missing; found name"),
            ("extends: cmu_mosei", "CMU-MOSEI is left out"),
            ("extends: emo", "emo.yaml cannot be read as YAML: .*No such file"),
            (MINE, "Looked for names such as f01_jo_3.wav; found 1 audio files, but none with such a name .*a.wav"),
            (MINE.replace("example", "#"), "Looked for names that match .*found 1 audio files"),
        ],
    )
    def test_one_that_is_malformed(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "mine.yaml").write_text(text)
        (tmp_path / "a.wav").touch()
        with pytest.raises(CorpusError, match=message):
            read(f"{tmp_path / 'mine.yaml'}={tmp_path}")

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(CorpusError, match="mine.yml.*cannot be read as YAML: .*No such file"):
            read(f"{tmp_path}/mine.yml={tmp_path}")


def test_the_script_lists_the_corpora(run_script: Callable[..., CompletedProcess[str]]) -> None:
    lines = run_script("corpora", "--list").stdout.splitlines()
    assert {line.split(" ")[0] for line in lines[1 : 1 + len(CORPORA)]} == set(CORPORA)
    [emodb] = [line for line in lines if line.startswith("emodb ")]
    assert emodb.split()[:5] == ["emodb", "de", "10", "535", "yes"]
    assert emodb.endswith("angry boredom disgust fear happy neutral sad")
    assert lines[-1].startswith("cmu_mosei: CMU-MOSEI is left out")
