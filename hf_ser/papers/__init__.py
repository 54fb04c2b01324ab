"""The tables of the papers that the project follows, with its own figures beside them."""

from hf_ser.papers.computed import COMPUTED, parameters_beside_table_iv
from hf_ser.papers.experiments import (
    CELLS,
    MODELS,
    Experiment,
    corpora_of,
    experiments_of,
    missing_for,
    of_reports,
    on_split,
    words,
)
from hf_ser.papers.figures import PaperTable, load_figures
from hf_ser.papers.results import Filled, fill
from hf_ser.papers.runs import Run, misfits, read_runs, require_model
from hf_ser.papers.tables import Ours, render

__all__ = [
    "CELLS",
    "COMPUTED",
    "MODELS",
    "Experiment",
    "Filled",
    "Ours",
    "PaperTable",
    "Run",
    "corpora_of",
    "experiments_of",
    "fill",
    "load_figures",
    "misfits",
    "missing_for",
    "of_reports",
    "on_split",
    "parameters_beside_table_iv",
    "read_runs",
    "render",
    "require_model",
    "words",
]
