"""What several test files use: real data where it is, small corpora and models made on the spot, the scripts as processes."""

import os

# The Hub's client reads this when it is imported: no test reaches the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# The tests' own servers are asked past whatever proxy there is, and errors are printed as users see them.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
os.environ.pop("HF_SER_DEBUG", None)

import gc
import logging
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import small_files
import torch
from filelock import FileLock
from hub_server import running_hub
from hypothesis import HealthCheck, settings
from small_files import write_clip
from tiny_models import SIZES, make_hubert, save_model, save_random
from transformers import (
    Data2VecAudioConfig,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.utils import logging as transformers_logging

REPOSITORY = Path(__file__).parent.parent
SHARED = Path(os.environ.get("HF_SER_SHARED", REPOSITORY.parent / "shared"))
# How long an example takes is the machine's affair.
settings.register_profile("hf_ser", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hf_ser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: with --no-loadscope-reorder no process is left with it at the end."""
    folders = {"training": 1, "frozen": 1, "scripts": 2, "export": 3, "hub": 4}
    # Kill tests fork, which a process may not survive that has used many libraries' threads.
    items.sort(key=lambda item: 0 if item.path.name == "test_kills.py" else folders.get(item.path.parent.name, 5))


def pytest_collection_finish() -> None:
    """What was imported stays: it is not looked through again whenever something else collects garbage."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real speech and real models."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real data at {SHARED}: set HF_SER_SHARED to the folder that has it")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test keeps anything in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_SER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_pictures() -> Iterator[None]:
    """Runs and reports draw nothing, which takes seconds."""

    def draw_run(results: Any, folder: Path) -> None:
        for name in ("training_curves", *(["confusion_matrix"] if results.emotions else [])):
            (folder / f"{name}.png").touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_ser.training.trainer.draw_run", draw_run)
        patch.setattr("hf_ser.report.files.plots", SimpleNamespace(draw=lambda report, folder: {}))
        yield


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The models are too small for two, and there is a process of tests for each processor."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_levels() -> Iterator[None]:
    """What a script that ran in this process has chosen to log, the next test does not inherit."""
    loggers = logging.Logger.manager.loggerDict
    before = {name: logger.level for name, logger in loggers.items() if isinstance(logger, logging.Logger)}
    yield
    for name, logger in loggers.items():
        if name.startswith("hf_ser") and isinstance(logger, logging.Logger):
            logger.setLevel(before.get(name, logging.NOTSET))


@pytest.fixture(autouse=True)
def own_clips() -> None:
    """The clips that a test writes do not depend on those of the tests before it."""
    small_files.numbers = count(1)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Any]:
    """`make_dataset(label=["sad", "happy"])` is a data set with these columns, and in `audio` an undecoded clip of each row."""
    from datasets import Audio, Dataset

    def make(**columns: list[Any]) -> Dataset:
        clips = [write_clip(tmp_path / "dataset.wav", 0.1).read_bytes() for _ in next(iter(columns.values()))]
        audio = [{"bytes": content, "path": f"{n}.wav"} for n, content in enumerate(clips)]
        return Dataset.from_dict({"audio": audio, **columns}).cast_column("audio", Audio(decode=False))

    return make


@pytest.fixture(scope="session")
def tiny_hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hubert(tmp_path_factory.mktemp("models") / "layer-norm")


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Whisper."""
    config = WhisperConfig(d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=37, decoder_layers=1,
                           decoder_attention_heads=2, decoder_ffn_dim=16, num_mel_bins=8, vocab_size=20, pad_token_id=0,
                           bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None,
                           begin_suppress_tokens=None)  # fmt: skip
    return save_random(tmp_path_factory.mktemp("models") / "whisper", config, WhisperFeatureExtractor(feature_size=8))


@pytest.fixture(scope="session")
def tiny_data2vec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random data2vec: several positional convolutions, and a configuration that does not mention SpecAugment."""
    config = Data2VecAudioConfig(**SIZES, conv_dim=[16] * 7, num_conv_pos_embeddings=3, conv_pos_kernel_size=7,
                                 num_conv_pos_embedding_groups=2, mask_time_prob=0.0)  # fmt: skip
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    return save_random(tmp_path_factory.mktemp("models") / "data2vec", config, extractor)


@pytest.fixture(scope="session")
def tiny_wav2vec2_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Wav2Vec2-BERT, which takes spectra."""
    config = Wav2Vec2BertConfig(**SIZES, conv_depthwise_kernel_size=5, left_max_position_embeddings=8,
                                feature_projection_input_dim=16, mask_time_prob=0.0)  # fmt: skip
    extractor = SeamlessM4TFeatureExtractor(feature_size=8, num_mel_bins=8)
    return save_random(tmp_path_factory.mktemp("models") / "wav2vec2-bert", config, extractor)


@pytest.fixture(scope="session")
def group_norm_hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hubert(tmp_path_factory.mktemp("models") / "group-norm", "group")


@pytest.fixture(scope="session")
def encoders(
    tiny_hubert: Path,
    group_norm_hubert: Path,
    tiny_whisper: Path,
    tiny_data2vec: Path,
    tiny_wav2vec2_bert: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], Path]:
    """The folder of one of these, or of a relative of HuBERT: `encoders("wavlm", "group")`."""

    def encoder(family: str, norm: str) -> Path:
        if one := {"whisper": tiny_whisper, "data2vec": tiny_data2vec, "wav2vec2bert": tiny_wav2vec2_bert}.get(family):
            return one
        if family == "hubert":
            return {"layer": tiny_hubert, "group": group_norm_hubert}[norm]
        return make_hubert(tmp_path_factory.mktemp("models") / family, norm, family)

    return encoder


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic corpus: six speakers, eight emotions, two clips of each."""
    from hf_ser.corpora import synthetic

    folder = tmp_path_factory.mktemp("corpora") / "synthetic"
    synthetic.make(folder, speakers=6, clips_per_emotion=2)
    return folder


@pytest.fixture
def run_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """
    `run_script("evaluate", *words)` gives the status of a script and what it printed, as `python` does, and runs it in this
    process: a new one takes seconds to import everything.
    """
    verbosity = transformers_logging.get_verbosity()

    def run(name: str, *words: object) -> subprocess.CompletedProcess[str]:
        path = REPOSITORY / "scripts" / f"{name}.py"
        command = [str(path), *map(str, words)]
        monkeypatch.setattr(sys, "argv", command)
        capsys.readouterr()  # what was printed before
        status = runpy.run_path(str(path))["main"]()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(command, status, printed.out, printed.err)

    yield run
    transformers_logging.set_verbosity(verbosity)
    transformers_logging.enable_progress_bar()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A disk of 400 kB, and what changes it: `mount("remount,size=50m")`."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root may mount a disk")

    try:
        mount("size=400k")
    except FileNotFoundError:
        pytest.skip("this system has no mount")
    yield folder, mount
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Hub of this test's own: see `running_hub`."""
    with running_hub(tmp_path_factory.mktemp("hf_home"), monkeypatch) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser that asks nothing of the network by itself."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs a Chromium")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update"]  # fmt: skip
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=words)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """
    `made_once(name, make)` is a folder that `make(folder)` has filled: in one of the processes that the tests are shared out to,
    for all of them.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"

    def made(name: str, make: Callable[[Path], object]) -> Path:
        (root / "unfinished").mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{name}.lock"):
            if not (root / name).exists():
                make(root / "unfinished" / name)
                (root / "unfinished" / name).rename(root / name)
        return root / name

    return made


@pytest.fixture(scope="session")
def model(tiny_hubert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of three emotions, as a run leaves it."""
    return save_model(tiny_hubert, tmp_path_factory.mktemp("models") / "tiny-emotions")


@pytest.fixture(scope="session")
def run_words(speech: Path, tiny_hubert: Path) -> Callable[..., list[str]]:
    """`run_words(folder, *more)` are the arguments of an epoch on the small corpus without augmentation; those of `more` win."""

    def words(folder: Path, *more: object, model: Path = tiny_hubert) -> list[str]:
        return ["--corpora", f"synthetic={speech}", "--model_name_or_path", str(model), "--num_train_epochs", "1", "--disable_tqdm", "True",
                "--emotions", "angry", "sad", "happy", "--learning_rate", "1e-2", "--speed_probability", "0", "--distort_probability", "0",
                "--output_dir", str(folder), *map(str, more)]  # fmt: skip

    return words
