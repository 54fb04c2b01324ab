"""Runs become models that others open."""

from hf_ser.hub.load import load

__all__ = ["load"]
