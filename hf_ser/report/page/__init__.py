"""
A report as a page to be read in a browser, offline, and as text for the console.

Whatever the report does not have is left out of both, and said to be missing.
"""

from hf_ser.report.page.cautions import warnings
from hf_ser.report.page.console import summary
from hf_ser.report.page.html import page
from hf_ser.report.page.pictures import PICTURES

__all__ = ["PICTURES", "page", "summary", "warnings"]
