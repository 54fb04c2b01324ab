"""The sections of a report, a module for each; the page has them in the order of `html.py`."""
