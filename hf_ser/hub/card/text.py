"""What `model_cards/template.md` calls as `text.NAME`."""

from hf_ser.hub.card.citations import citations
from hf_ser.hub.card.corpora import corpora_list, corpora_table, labels_note, left_out_note, set_aside_note
from hf_ser.hub.card.figures import (
    chance,
    confusion_table,
    emotions_table,
    figures_table,
    headline_interval,
    intervals_note,
    kept_note,
    probe_note,
    taken_note,
    tested_on,
)
from hf_ser.hub.card.limitations import all_acted, limitations
from hf_ser.hub.card.methods import unmerged
from hf_ser.hub.card.split import parts_table, shared_note, split_in_words, unknown_note, warnings
from hf_ser.hub.card.training import (
    command_line,
    cost_list,
    history_table,
    hyperparameters,
    parameters_note,
    versions_note,
)
from hf_ser.hub.card.words import percent
from hf_ser.wording import listed

__all__ = [
    "all_acted",
    "chance",
    "citations",
    "command_line",
    "confusion_table",
    "corpora_list",
    "corpora_table",
    "cost_list",
    "emotions_table",
    "figures_table",
    "headline_interval",
    "history_table",
    "hyperparameters",
    "intervals_note",
    "kept_note",
    "labels_note",
    "left_out_note",
    "limitations",
    "listed",
    "parameters_note",
    "parts_table",
    "percent",
    "probe_note",
    "set_aside_note",
    "shared_note",
    "split_in_words",
    "taken_note",
    "tested_on",
    "unknown_note",
    "unmerged",
    "versions_note",
    "warnings",
]
