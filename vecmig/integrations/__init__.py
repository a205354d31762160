"""Retrievers over a reader, for the frameworks that have their own: each is imported by its module's name.

Importing this package alone loads none of them.
"""

__all__ = ["langchain", "llama_index"]
