"""Open a page to try a model in the browser, or put it on the Hub as a Space: hf-ser demo MODEL"""

import argparse
import os

from hf_ser.cli.options import add_options, new_parser
from hf_ser.command_line import errors_in_one_line, importing, log_to_terminal, path_argument


@errors_in_one_line()
def main() -> int:
    arguments = parse_arguments()
    log_to_terminal()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # Gradio reads it when it is imported
    with importing("Gradio", "the page", extra="demo"):
        from hf_ser.app import page, space
    names = ("base", "revision", "title", "examples")
    options = {name: getattr(arguments, name) for name in names}
    if arguments.space_folder:
        space.write_space(arguments.space_folder, arguments.model, **options, requirement=arguments.requirement)
        print(f"The Space's files are in {arguments.space_folder}.")
    if arguments.push_space:
        address = space.push_space(
            arguments.push_space,
            arguments.model,
            **options,
            requirement=arguments.requirement,
            private=arguments.private,
            overwrite=arguments.overwrite,
        )
        print(f"The Space is at {address}; the Hub builds it now, which takes some minutes.")
    if not (arguments.space_folder or arguments.push_space):
        page.launch(page.make_page(arguments.model, **options), server_name=arguments.host, server_port=arguments.port)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add_options(parser, "model", "--base", "--revision")
    parser.add_argument("--title", help="the page's heading, by default the model's name")
    parser.add_argument(
        "--examples", type=path_argument, metavar="FOLDER", help="clips that visitors can try the model with"
    )
    page = parser.add_argument_group("a page on this machine, the default")
    page.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 gives others on the network access (default: %(default)s)"
    )
    page.add_argument("--port", type=int, help="by default the first free one from 7860")
    space = parser.add_argument_group("a Space on the Hub, of a model that is there")
    space.add_argument("--space_folder", metavar="DIR", help="write the Space's files into this new folder")
    space.add_argument("--push_space", metavar="USER/NAME", help="upload them to this Space")
    space.add_argument("--private", action="store_true", help="make a Space that only its owner can see")
    space.add_argument("--overwrite", action="store_true", help="write into an existing Space")
    space.add_argument(
        "--requirement",
        help="pip requirement for hf_ser in the Space, such as 'hf_ser[demo] @ git+https://...'; by default this version "
        "from the package index",
    )
    return parser.parse_args()
