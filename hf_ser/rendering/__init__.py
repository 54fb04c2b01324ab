"""
The rendering of a report: sections of blocks (tables, lists, paragraphs, plots), shown as an HTML page, as Markdown in the model
card and as text on the console.
"""

from hf_ser.rendering.formats import console, markdown, page
from hf_ser.rendering.headline import Caution, cautions
from hf_ser.rendering.sections import card_section

__all__ = ["Caution", "card_section", "cautions", "console", "markdown", "page"]
