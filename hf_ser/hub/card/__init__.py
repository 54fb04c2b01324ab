"""The model card of a run: what is said, by subject, and how it comes into `model_cards/template.md`."""

from hf_ser.hub.card.model_card import (
    CARD,
    CORPORA_LICENCES,
    TEMPLATE,
    SERModelCardData,
    make_card,
    template,
    write_card,
)

__all__ = ["CARD", "CORPORA_LICENCES", "TEMPLATE", "SERModelCardData", "make_card", "template", "write_card"]
