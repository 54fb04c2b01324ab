"""The rendering of a report as an HTML page and as text on the console, from the same sentences and tables as the model card."""

from hf_ser.rendering.formats import console, markdown, page
from hf_ser.rendering.headline import cautions

__all__ = ["cautions", "console", "markdown", "page"]
