"""
The page of a model as a Space on the Hub.

A Space is a repository whose `app.py` the Hub runs. `hf_ser` is on no package index, so that its source goes along, and
`requirements.txt` has what it depends on in the versions that are installed here.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import requires, version
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from packaging.requirements import Requirement

import hf_ser
from hf_ser.hub.errors import explained
from hf_ser.hub.pushing import full_name

#: How an `app.py` begins that was written here.
WRITTEN_HERE = '"""Written by hf_ser (scripts/demo.py --space_folder)."""'
APP = """{written_here}

import hf_ser
from hf_ser.inference.app import describe, launch, make_app

MODEL = {model!r}

if __name__ == "__main__":
    page = make_app(
        hf_ser.load(MODEL{given}),
        title={title!r},
        description=describe(MODEL{revision}),
        examples={examples!r},
    )
    launch(page)
"""
README = """---
title: {title}
emoji: 🎙️
colorFrom: indigo
colorTo: blue
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
license: apache-2.0
models:
{models}
tags:
- audio-classification
- speech-emotion-recognition
---

# {heading}

A page to try [{model}](https://huggingface.co/{model}), which tells emotions apart in speech. It was made with hf_ser, whose
source is in `hf_ser/` (Apache 2.0); the model has a licence of its own.

The model compares a voice with the recordings that it learnt from. It cannot read what people feel.

To run it elsewhere: `pip install -r requirements.txt gradio=={gradio}` and `python app.py`. If the model is private, the Space
needs a token that may read it: a secret named `HF_TOKEN` in its settings.
"""


def require_hub_name(model: str) -> None:
    """
    Raises:
        ValueError: if a model is not named as on the Hub: a Space cannot open what is only here.
    """
    what = "a Space opens its model on the Hub"
    if Path(model).expanduser().exists():
        raise ValueError(
            f"{model!r} is a folder here, and {what}: push the model (scripts/push.py), then give its name there (user/name)"
        )
    try:
        validate_repo_id(model)
        named = model.count("/") == 1
    except HFValidationError:
        named = False
    if not named:
        raise ValueError(f"{model!r} is no model's name there, and {what}; expected user/name")


def write_space(
    folder: str | Path,
    model: str,
    *,
    base: str | None = None,
    revision: str | None = None,
    title: str | None = None,
    examples: Sequence[str | Path] = (),
) -> None:
    """
    Writes the files of a Space with a model's page.

    Args:
        folder (`str` or `Path`): Where they go: a new folder, an empty one, or one that was written here before.
        model (`str`): The model's name on the Hub.
        base (`str`, *optional*): The name of an adapter's base model, if it is not the one that the adapter says.
        revision (`str`, *optional*): The model's branch, tag or commit.
        title (`str`, *optional*): The page's heading, by default the model's name.
        examples (`Sequence[str | Path]`, *optional*): Clips to try the model with, which are copied.

    Raises:
        FileExistsError: if there is something else in the folder.
        ValueError: if the model, or its base, is not named as on the Hub.
    """
    folder = Path(folder).expanduser()
    for name in filter(None, (model, base)):
        require_hub_name(name)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not _written_here(folder)):
        raise FileExistsError(
            f"{str(folder)!r} is there already and is no Space that was written here; give a new folder"
        )
    title = title or model.split("/")[-1]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as whole:
        _write(Path(whole), model, base, revision, title, examples)
        for old in (folder / "hf_ser", folder / "examples"):
            if old.exists():
                shutil.rmtree(old)
        shutil.copytree(whole, folder, dirs_exist_ok=True)


def _written_here(folder: Path) -> bool:
    app = folder / "app.py"
    return app.is_file() and app.read_text(encoding="utf-8").startswith(WRITTEN_HERE)


def _write(
    folder: Path, model: str, base: str | None, revision: str | None, title: str, examples: Sequence[str | Path]
) -> None:
    package = Path(hf_ser.__file__).parent
    # The search needs Optuna, which a Space does not install.
    shutil.copytree(package, folder / "hf_ser", ignore=shutil.ignore_patterns("__pycache__", ".*", "search.py"))
    if (licence := package.parent / "LICENSE").is_file():  # it is elsewhere if the package was installed from a wheel
        shutil.copy(licence, folder)
    clips = []
    for number, clip in enumerate(map(Path, examples), start=1):
        (folder / "examples").mkdir(exist_ok=True)
        clips.append(f"examples/{number:02d}_{clip.name}")
        shutil.copy(clip, folder / clips[-1])
    asked = {"base": base, "revision": revision}
    given = "".join(f", {name}={value!r}" for name, value in asked.items() if value is not None)
    readme = README.format(
        title=json.dumps(title, ensure_ascii=False),
        heading=title,
        model=model,
        models="\n".join(f"- {name}" for name in filter(None, (model, base))),
        gradio=version("gradio"),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
    )
    texts = {
        "app.py": APP.format(
            written_here=WRITTEN_HERE,
            model=model,
            given=given,
            revision="" if revision is None else f", revision={revision!r}",
            title=title,
            examples=clips,
        ),
        "README.md": readme,
        "requirements.txt": "".join(f"{line}\n" for line in requirements()),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def requirements() -> list[str]:
    """What the package depends on, in the versions that are installed here. Gradio itself is the Space's `sdk_version`."""
    needed = [Requirement(line) for line in requires("hf_ser") or []]
    names = [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    # Without the end of a version such as 2.11.0+cpu, which the package index does not have.
    return [f"{name}=={version(name).split('+')[0]}" for name in names]


def push_space(
    name: str,
    model: str,
    *,
    base: str | None = None,
    revision: str | None = None,
    title: str | None = None,
    examples: Sequence[str | Path] = (),
    private: bool = False,
    overwrite: bool = False,
    token: str | None = None,
) -> str:
    """
    Uploads a Space with a model's page in one commit. The Hub then builds and starts it.

    Args:
        name (`str`): The Space's name, `user/name`, or `name` in the namespace of the token.
        model, base, revision, title, examples: As for [`write_space`].
        private (`bool`, defaults to `False`): Whether a new Space is seen by its owner alone.
        overwrite (`bool`, defaults to `False`): Whether to write into a Space that exists.
        token (`str`, *optional*): A token that may write, if not the one that is stored.

    Returns:
        The Space's address.

    Raises:
        FileExistsError: if there is a Space of this name, and `overwrite` is not set.
        HubError: if the Hub does not have the model, or does not take the Space.
        ValueError: if the model, or its base, is not named as on the Hub.
    """
    api = HfApi(token=token)
    with TemporaryDirectory() as folder:
        write_space(folder, model, base=base, revision=revision, title=title, examples=examples)
        with explained(model, revision):
            api.model_info(model, revision=revision)
        with explained(name):
            name = full_name(api, name)
            api.create_repo(name, repo_type="space", space_sdk="gradio", private=private or None, exist_ok=True)
            there = set(api.list_repo_files(name, repo_type="space")) - {".gitattributes", "README.md"}
        if there and not overwrite:
            raise FileExistsError(
                f"there is a Space {name} already; choose another name, or overwrite it (--overwrite)"
            )
        with explained(name):
            api.upload_folder(
                repo_id=name,
                repo_type="space",
                folder_path=folder,
                delete_patterns=["hf_ser/*", "examples/*"],
                commit_message=f"A page for {model}",
            )
    return f"{constants.ENDPOINT}/spaces/{name}"
