"""Open a page to try a model in the browser, or put it on the Hub as a Space: python scripts/demo.py MODEL"""

import argparse
import logging
import os
import sys
from pathlib import Path

import hf_ser
from hf_ser.command_line import errors_in_one_line, path_argument
from hf_ser.corpora.rows import AUDIO_SUFFIXES


@errors_in_one_line()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a run's folder, an adapter's folder, or a model's name on the Hub")
    parser.add_argument("--base", help="where an adapter's base model is, if not where the adapter says")
    parser.add_argument("--revision", help="a branch, tag or commit of a model on the Hub")
    parser.add_argument("--title", help="the page's heading, by default the model's name")
    parser.add_argument(
        "--examples", type=path_argument, metavar="FOLDER", help="clips that visitors can try the model with"
    )
    page = parser.add_argument_group("a page on this machine, which is the default")
    page.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 lets others on the network in (default: %(default)s)"
    )
    page.add_argument("--port", type=int, help="by default the first free one from 7860")
    space = parser.add_argument_group("a Space on the Hub, of a model that is there")
    space.add_argument("--space_folder", metavar="DIR", help="write the Space's files into this folder")
    space.add_argument("--push_space", metavar="USER/NAME", help="upload them to this Space")
    space.add_argument("--private", action="store_true", help="make a Space that its owner alone can see")
    space.add_argument("--overwrite", action="store_true", help="write into a Space that exists")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # Gradio reads it when it is imported
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError:
        print("error: the page needs Gradio; install it with pip install 'hf_ser[demo]'", file=sys.stderr)
        return 1
    if arguments.space_folder or arguments.push_space:
        make_space(arguments)
    else:
        open_page(arguments)
    return 0


def open_page(arguments: argparse.Namespace) -> None:
    """Serves the page until it is interrupted."""
    from hf_ser.inference.app import describe, launch, make_app

    clips = examples(arguments.examples)
    asked = {name: getattr(arguments, name) for name in ("base", "revision") if getattr(arguments, name)}
    classifier = hf_ser.load(arguments.model, **asked)
    title = arguments.title or Path(arguments.model).name
    description = describe(arguments.model, revision=arguments.revision)
    page = make_app(classifier, title=title, description=description, examples=clips)
    launch(page, server_name=arguments.host, server_port=arguments.port)


def make_space(arguments: argparse.Namespace) -> None:
    """Writes or uploads a Space, and says where it is."""
    from hf_ser.inference.space import push_space, write_space

    asked = {name: getattr(arguments, name) for name in ("base", "revision", "title")}
    clips = examples(arguments.examples)
    if arguments.space_folder:
        write_space(arguments.space_folder, arguments.model, **asked, examples=clips)
        print(f"The Space's files are in {arguments.space_folder}.")
    if arguments.push_space:
        address = push_space(
            arguments.push_space,
            arguments.model,
            **asked,
            examples=clips,
            private=arguments.private,
            overwrite=arguments.overwrite,
        )
        print(f"The Space is at {address}; the Hub builds it now, which takes some minutes.")


def examples(folder: Path | None) -> list[Path]:
    """The audio files of a folder, in the order of their names."""
    if folder is None:
        return []
    clips = sorted(path for path in folder.expanduser().iterdir() if path.suffix.lower() in AUDIO_SUFFIXES)
    if not clips:
        raise FileNotFoundError(f"--examples: there is no audio in {str(folder)!r}")
    return clips


if __name__ == "__main__":
    sys.exit(main())
