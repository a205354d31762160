"""Reads of an application: a query is embedded by the recipe of the tag that answers it."""

from vecmig.reader.reader import AsyncReader, Reader
from vecmig.store.search import Hit

__all__ = ["AsyncReader", "Hit", "Reader"]
