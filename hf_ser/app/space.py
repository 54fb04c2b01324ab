"""The page of a model as a Space: a repository whose `app.py` the Hub runs after installing `requirements.txt`."""

import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, constants
from huggingface_hub.utils import validate_repo_id

from hf_ser.hub.errors import explained

APP = """from hf_ser.app.page import launch, make_page

launch(make_page({arguments}))
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
models: {models}
tags: [audio-classification, speech-emotion-recognition]
---

A page to try [{model}](https://huggingface.co/{model}), which recognises emotions in speech. The model compares a voice with the
recordings that it was trained on; it cannot read what people feel. It has a licence of its own. If it is private, the Space needs
a token that may read it: a secret named `HF_TOKEN` in its settings.
"""


def write_space(
    folder: str | Path,
    model: str,
    *,
    base: str | None = None,
    revision: str | None = None,
    title: str | None = None,
    examples: str | Path | None = None,
    requirement: str | None = None,
) -> None:
    """
    Writes the files of a Space with a model's page: `app.py`, `requirements.txt`, `README.md` and `examples/`.

    Args:
        folder (`str` or `Path`): A new or empty folder.
        model (`str`): The model's name on the Hub.
        base, revision, title, examples (*optional*): See [`~hf_ser.app.page.make_page`]; `base` is a name on the Hub, too, and
            the examples are copied.
        requirement (`str`, *optional*): The requirement of this package for pip, such as `hf_ser[demo] @ git+https://...`; by
            default this version from the package index.

    Raises:
        FileExistsError: if the folder has files.
        ValueError: if the model, or its base, is not the name of a model on the Hub.
    """
    folder = Path(folder).expanduser()
    for name in filter(None, (model, base)):
        if Path(name).expanduser().exists() or name.count("/") != 1:
            raise ValueError(f"{name!r}: expected a model on the Hub, user/name; push a model that is only here first")
        validate_repo_id(name)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FileExistsError(f"{str(folder)!r} exists and is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {"base": base, "revision": revision, "title": title, "examples": examples and "examples"}
    words = [repr(model), *(f"{name}={value!r}" for name, value in arguments.items() if value)]
    readme = README.format(
        title=json.dumps(title or model, ensure_ascii=False),
        model=model,
        models=json.dumps([name for name in (model, base) if name]),
        gradio=version("gradio"),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
    )
    if examples:
        shutil.copytree(examples, folder / "examples")
    (folder / "app.py").write_text(APP.format(arguments=", ".join(words)), encoding="utf-8")
    (folder / "README.md").write_text(readme, encoding="utf-8")
    requirement = requirement or f"hf_ser[demo]=={version('hf_ser')}"
    (folder / "requirements.txt").write_text(f"{requirement}\n", encoding="utf-8")


def push_space(
    name: str,
    model: str,
    *,
    private: bool = False,
    overwrite: bool = False,
    token: str | None = None,
    **options: str | None,
) -> str:
    """
    Uploads a Space with a model's page in one commit. The Hub then builds and starts it.

    Args:
        name (`str`): The Space's name, `user/name`, or `name` in the namespace of the token.
        private (`bool`, defaults to `False`): Whether only its owner can see a new Space.
        overwrite (`bool`, defaults to `False`): Whether to write into an existing Space.
        token (`str`, *optional*): A token that may write, if not the stored one.
        model, **options: See [`write_space`].

    Returns:
        The Space's address.

    Raises:
        FileExistsError: if there is a Space of this name, and `overwrite` is not set.
        HubError: if the Hub does not have the model, or does not accept the Space.
        ValueError: see [`write_space`].
    """
    api = HfApi(token=token)
    with TemporaryDirectory() as folder:
        write_space(folder, model, **options)
        with explained(model, options.get("revision")):
            api.model_info(model, revision=options.get("revision"))
        with explained(name):
            name = api.create_repo(
                name, repo_type="space", space_sdk="gradio", private=private or None, exist_ok=True
            ).repo_id
            files = set(api.list_repo_files(name, repo_type="space")) - {".gitattributes", "README.md"}
        if files and not overwrite:
            raise FileExistsError(f"there is a Space {name} already; choose another name, or overwrite it")
        with explained(name):
            api.upload_folder(
                repo_id=name,
                repo_type="space",
                folder_path=folder,
                delete_patterns=["examples/*"],
                commit_message=f"A page for {model}",
            )
    return f"{constants.ENDPOINT}/spaces/{name}"
