"""The page in a browser, and the files of a Space."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile
from hub_server import running_hub
from huggingface_hub import HfApi, RepoCard, snapshot_download
from small_files import write_clip

REPOSITORY = Path(__file__).parents[2]
EMOTIONS = ("angry", "happy", "sad")
needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="the page needs Gradio: pip install 'hf_ser[demo]'"
)


@pytest.fixture
def demo(run_script: Callable[..., "subprocess.CompletedProcess[str]"]) -> Callable[..., tuple[int, str]]:
    """Runs the script in this process, and returns its status and what it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        ran = run_script("demo", *arguments)
        return ran.returncode, ran.stdout + ran.stderr

    return run


@pytest.fixture(scope="module")
def served(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a Space that a new process serves, of a model on the Hub; and the process' log."""
    root = tmp_path_factory.mktemp("served")
    clip = 0.3 * np.sin(np.arange(16_000) / 10)
    (root / "clips").mkdir()
    soundfile.write(root / "clips" / "one.wav", clip, 16_000)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch, running_hub(root / "hub", patch), (root / "log").open("w") as log:
        HfApi().create_repo("lab/emotions")
        HfApi().upload_folder(repo_id="lab/emotions", folder_path=model)
        title = {"title": "Tiny emotions", "examples": str(root / "clips")}
        importlib.import_module("hf_ser.app.space").push_space("lab/page", "lab/emotions", **title)
        snapshot_download("lab/page", repo_type="space", local_dir=root / "space")
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=root / "space", stdout=log, stderr=log,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "GRADIO_SERVER_PORT": str(port), "PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        try:
            for _ in range(3000):
                assert process.poll() is None, (root / "log").read_text()
                try:
                    urlopen(f"http://127.0.0.1:{port}/config").close()
                    break
                except URLError:
                    time.sleep(0.1)
            else:
                pytest.fail(f"no page after 300 s: {(root / 'log').read_text()}")
            yield f"http://127.0.0.1:{port}", root / "log"
        finally:
            process.terminate()
            process.wait(30)


def test_without_gradio_the_script_says_what_to_install(
    demo: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("hf_ser.app.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("hf_ser.app.page", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    message = "error: the page needs Gradio; install it with pip install 'hf_ser[demo]'\n(HF_SER_DEBUG=1 shows where)\n"
    assert demo(model) == (1, message)


@needs_gradio
def test_errors_are_one_line(demo: Any, model: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ([tmp_path / "nothing"], "nothing' is neither an existing folder nor a name on the Hub"),
        ([model, "--examples", tmp_path / "gone"], "gone'"),
        ([model, "--space_folder", tmp_path / "space"], "push a model that is only here first"),
        (["emotions", "--space_folder", tmp_path / "space"], "'emotions': expected a model on the Hub, user/name"),
        (["a/b", "--base", model, "--space_folder", tmp_path / "space"], "expected a model on the Hub"),
    ):
        status, printed = demo(*arguments)
        assert status == 1
        assert message in printed
        assert "Traceback" not in printed
    assert not (tmp_path / "space").exists()


@needs_gradio
def test_the_files_of_a_space(demo: Any, tmp_path: Path) -> None:
    write_clip(tmp_path / "clips" / "it's me.wav")
    space = tmp_path / "new" / "space"
    arguments = ["lab/emotions", "--base", "lab/encoder", "--revision", "v1.0", "--title", 'Say "hi": emotions',
                 "--examples", tmp_path / "clips", "--space_folder", space]  # fmt: skip
    assert demo(*arguments) == (0, f"The Space's files are in {space}.\n")
    assert {path.name for path in space.iterdir()} == {"app.py", "requirements.txt", "README.md", "examples"}
    words = """'lab/emotions', base='lab/encoder', revision='v1.0', title='Say "hi": emotions', examples='examples'"""
    assert f"launch(make_page({words}))" in (space / "app.py").read_text()
    assert (space / "examples" / "it's me.wav").is_file()
    assert (space / "requirements.txt").read_text() == f"hf_ser[demo]=={version('hf_ser')}\n"
    card = RepoCard.load(space / "README.md").data.to_dict()
    assert card["title"] == 'Say "hi": emotions'
    assert (card["sdk"], card["sdk_version"], card["app_file"]) == ("gradio", version("gradio"), "app.py")
    assert card["models"] == ["lab/emotions", "lab/encoder"]
    assert card["license"] == "apache-2.0"
    assert card["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    status, printed = demo("lab/emotions", "--space_folder", space)
    assert (status, "exists and is not empty; name a new folder" in printed) == (1, True)
    requirement = "hf_ser[demo] @ git+https://example.org/hf_ser"
    assert demo("lab/emotions", "--space_folder", tmp_path / "other", "--requirement", requirement)[0] == 0
    assert (tmp_path / "other" / "requirements.txt").read_text() == f"{requirement}\n"


@needs_gradio
def test_a_space_is_made_once_and_overwritten_when_asked(hub: Any, demo: Any, tmp_path: Path) -> None:
    api = HfApi()
    status, printed = demo("lab/emotions", "--push_space", "lab/page")
    assert status == 1
    assert "lab/emotions is not on the Hub" in printed
    assert not api.repo_exists("lab/page", repo_type="space"), "no Space is made for nothing"
    api.create_repo("lab/emotions")
    clip = write_clip(tmp_path / "clips" / "clip.wav", seconds=1)
    arguments = ["lab/emotions", "--push_space", "lab/page", "--examples", clip.parent]
    status, printed = demo(*arguments, "--private")
    assert (status, f"{hub.endpoint}/spaces/lab/page" in printed) == (0, True), printed
    assert api.repo_info("lab/page", repo_type="space").private
    assert [each.title for each in api.list_repo_commits("lab/page", repo_type="space")][:-1] == [
        "A page for lab/emotions"
    ]
    status, printed = demo(*arguments)
    assert status == 1
    assert printed.startswith("error: there is a Space lab/page already")
    assert demo("lab/emotions", "--push_space", "page", "--overwrite")[0] == 0
    assert "examples/clip.wav" not in api.list_repo_files("lab/page", repo_type="space")


@needs_gradio
def test_the_script_opens_a_page(demo: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr("hf_ser.app.page.launch", lambda page, **options: opened.append((page.title, options)))
    assert demo(model, "--title", "Mine", "--port", 7861)[0] == 0
    assert opened == [("Mine", {"server_name": "127.0.0.1", "server_port": 7861})]


@needs_gradio
def test_a_space_runs_with_its_model_from_the_hub(served: tuple[str, Path], tmp_path: Path) -> None:
    from gradio_client import Client, handle_file

    with urlopen(f"{served[0]}/config") as config:
        assert "[lab/emotions](https://huggingface.co/lab/emotions)" in config.read().decode()
    client = Client(served[0], verbose=False, analytics_enabled=False, download_files=False)
    probabilities, *_ = client.predict(handle_file(str(write_clip(tmp_path / "a.wav"))), api_name="/predict")
    assert {each["label"] for each in probabilities["confidences"]} == set(EMOTIONS)


@needs_gradio
def test_the_page_in_a_browser(served: tuple[str, Path], browser: Any, tmp_path: Path) -> None:
    write_clip(tmp_path / "talk.wav", seconds=5)
    soundfile.write(tmp_path / "silent.wav", np.zeros(32_000), 16_000)
    (tmp_path / "voice.mp3").write_bytes(b"no audio" * 1000)
    asked: list[str] = []
    address, log = served
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("request", lambda request: asked.append(request.url))
    expect = importlib.import_module("playwright.sync_api").expect
    expect.set_options(timeout=60_000)
    file = page.locator("#recording input[type=file]")
    clear = page.locator("#recording").get_by_label("Clear")
    button = page.get_by_role("button", name="Submit")

    page.goto(address)
    expect(page.get_by_role("heading", name="Tiny emotions")).to_be_visible()
    button.click()
    expect(page.get_by_text("There is no recording yet")).to_be_visible()

    file.set_input_files(tmp_path / "talk.wav")
    expect(page.locator("#recording").get_by_text("0:05")).to_be_visible()
    button.click()
    probabilities = page.locator("#probabilities")
    expect(probabilities).to_contain_text("%")
    shares = [int(share) for share in re.findall(r"(\d+)%", probabilities.inner_text())]
    assert len(shares) == len(EMOTIONS)
    assert sum(shares) == pytest.approx(100, abs=2)
    assert all(emotion in probabilities.inner_text() for emotion in EMOTIONS)
    expect(page.locator("#plot img")).to_be_visible()
    expect(page.locator("#segments")).to_contain_text("5.00")
    with page.expect_download() as download:
        page.locator("#files a[download]").first.click()
    assert download.value.suggested_filename == "talk.csv"
    assert Path(download.value.path()).read_text().startswith("start,stop,emotion,probability\n0.0,")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the page is wider than a phone"
    page.set_viewport_size({"width": 1280, "height": 900})

    for name, reason in (("silent.wav", "silent.wav is silent"), ("voice.mp3", "voice.mp3 is unreadable")):
        clear.click()
        expect(clear).to_be_hidden()
        expect(page.locator("#plot img")).to_be_hidden()
        expect(probabilities).not_to_contain_text("%")
        file.set_input_files(tmp_path / name)
        expect(clear).to_be_visible()
        button.click()
        expect(page.get_by_text(reason)).to_be_visible()
        assert "Traceback" not in page.inner_text("body")
    page.close()
    assert "Traceback" not in log.read_text()
    elsewhere = {url for url in asked if urlsplit(url).scheme not in ("data", "blob")}
    assert {urlsplit(url).hostname for url in elsewhere} == {"127.0.0.1"}
