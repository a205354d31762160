"""Reads of an application: a query is embedded by the recipe of the tag that answers it."""

from vecmig.homes import Hit
from vecmig.reader.reader import AsyncReader, Reader

__all__ = ["AsyncReader", "Hit", "Reader"]
