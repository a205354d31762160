"""The tables that libraries and products make for their vectors, told by the names and types of their columns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vecmig.inventory.vector_tables import Attribute, Table

#: Columns of text that are likely to be what was embedded, the likeliest first.
_TEXTS: Final = (
    *("content", "text", "page_content", "body", "document", "chunk", "chunk_text", "chunk_content", "passage"),
    *("paragraph", "sentence", "message"),
)
#: Columns that say which model made a vector; the second kind may speak of something else, and is read with its values.
_MODEL: Final = re.compile(r".*embed.*(model|version|tag)|.*(model|version).*embed.*|vectorizer", re.IGNORECASE)
_MAYBE_MODEL: Final = re.compile(r"model|model_?(name|id|version)|ai_model", re.IGNORECASE)
_MODEL_VALUE: Final = re.compile(
    r"embed|ada-?00|\b(bge|e5|gte|minilm|mpnet|jina|voyage|nomic|titan|gecko|cohere|mistral|qwen|wordllama|clip)\b|sentence",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table is laid out, and what follows for a collection over it."""

    #: What people call it.
    name: str
    #: SQL for the text that was embedded; None where no column is one.
    text: str | None
    #: Whether the text is a guess.
    guessed: bool = False
    #: What a collection over it is called.
    collection: str = ""
    #: The column whose values are collections of their own.
    divided_by: str | None = None
    #: The table that has their names, with its column of values and of names.
    names: tuple[str, str, str] | None = None
    #: Why the text cannot be read, if so.
    unreadable: str = ""
    #: Whether there is a table for each set of documents, so that there are many, and more to come.
    many: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    """One known layout."""

    name: str
    #: By the table's name, where that is fixed.
    table: re.Pattern[str]
    columns: tuple[str, ...]
    #: The column that has the vector.
    vector: str
    text: str
    collection: Callable[[re.Match[str]], str]
    needs_reader: str = ""
    many: bool = False


def _same(match: re.Match[str]) -> str:
    return match[0]


_ANY: Final = re.compile(".+")
_KNOWN: Final = (
    _Known(
        "LangChain PGVector",
        re.compile("langchain_pg_embedding"),
        ("collection_id", "embedding", "document", "cmetadata"),
        "embedding",
        "document",
        _same,
    ),
    _Known(
        "LangChain PGVectorStore",
        _ANY,
        ("langchain_id", "content", "embedding", "langchain_metadata"),
        "embedding",
        "content",
        _same,
    ),
    _Known(
        "LlamaIndex",
        re.compile("data_(.+)"),
        ("id", "text", "metadata_", "node_id", "embedding"),
        "embedding",
        "text",
        lambda match: match[1],
    ),
    _Known(
        "pgai",
        re.compile("(.+)_embedding_store|.+"),
        ("embedding_uuid", "chunk_seq", "chunk", "embedding"),
        "embedding",
        "chunk",
        lambda match: match[1] or match[0],
    ),
    _Known(
        "Haystack",
        _ANY,
        ("id", "embedding", "content", "blob_data", "blob_meta", "blob_mime_type", "meta"),
        "embedding",
        "content",
        _same,
    ),
    _Known("Mem0", _ANY, ("id", "vector", "payload"), "vector", "payload->>'data'", _same),
    _Known(
        "Dify",
        re.compile(r"embedding_(.*vector_index_([0-9a-z]+).*)", re.IGNORECASE),
        ("id", "text", "meta", "embedding"),
        "embedding",
        "text",
        lambda match: f"dify_{match[2]}",
        many=True,
    ),
    _Known(
        "Open WebUI",
        re.compile("document_chunk"),
        ("id", "vector", "collection_name", "text", "vmetadata"),
        "vector",
        "text",
        _same,
    ),
    _Known(
        "Supabase",
        _ANY,
        ("id", "content", "metadata", "embedding"),
        "embedding",
        "content",
        _same,
        needs_reader="match_",
    ),
)


def layout_of(table: Table, vector: str, lengths: dict[str, float] | None = None) -> Layout:
    """Return how the table of a vector column is laid out.

    Args:
        table: the table.
        vector: the column with the vectors.
        lengths: the mean length of the texts in each column of text, where it is known.
    """
    for known in _KNOWN:
        match = known.table.fullmatch(table.name)
        if match is None or vector != known.vector or not table.has(*known.columns):
            continue
        if known.needs_reader and not any(known.needs_reader in reader for reader in table.readers):
            continue
        divided = known.name == "LangChain PGVector"
        column = table.column(known.text)
        # what Open WebUI encrypts is bytea
        unreadable = f"{known.text} is {column.type}: encrypted" if column and column.type == "bytea" else ""
        return Layout(
            known.name,
            None if unreadable else known.text,
            collection=known.collection(match),
            divided_by="collection_id" if divided else None,
            names=("langchain_pg_collection", "uuid", "name") if divided else None,
            unreadable=unreadable,
            many=known.many,
        )
    texts = [column for column in table.columns if column.kind == "text" and column.name not in table.key]
    by_name = {column.name.lower(): column for column in texts}
    named = next((by_name[name] for name in _TEXTS if name in by_name), None)
    longest = max(texts, key=lambda column: (lengths or {}).get(column.name, 0.0), default=None)
    chosen = named or longest
    return Layout("own table", chosen.quoted if chosen else None, guessed=True, collection=table.name)


def model_columns(table: Table) -> list[tuple[Attribute, bool]]:
    """Name the columns that may say which model made a vector, the likeliest first, and whether their name is clear."""
    texts = [column for column in table.columns if column.kind == "text"]
    clear = [(column, True) for column in texts if _MODEL.fullmatch(column.name)]
    return clear + [(column, False) for column in texts if _MAYBE_MODEL.fullmatch(column.name)]


def names_a_model(value: str | None) -> bool:
    """Return whether a value is one that an embedding model is called by."""
    return value is not None and _MODEL_VALUE.search(value) is not None
