"""Publishes runs on the Hub, and opens models."""

from hf_ser.hub.errors import HubError
from hf_ser.hub.loading import fetch_base, fetch_records, load
from hf_ser.hub.pushing import push

__all__ = ["HubError", "fetch_base", "fetch_records", "load", "push"]
