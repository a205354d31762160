"""The project's two configuration files: vecmig.ini and collections.yaml."""

from vecmig.config.collections import (
    INDEX_DIMS,
    VECTOR_COLUMNS,
    ChangeTracking,
    Collection,
    Collections,
    Hnsw,
    Metric,
    Storage,
    index_problem,
    load_collections,
    recipe_lines,
)
from vecmig.config.ini import EMBEDDED, FILE_TOKENS, Config, load_config
from vecmig.config.words import nearest, redact, shown, without_passwords

__all__ = [
    "EMBEDDED",
    "FILE_TOKENS",
    "INDEX_DIMS",
    "VECTOR_COLUMNS",
    "ChangeTracking",
    "Collection",
    "Collections",
    "Config",
    "Hnsw",
    "Metric",
    "Storage",
    "index_problem",
    "load_collections",
    "load_config",
    "nearest",
    "recipe_lines",
    "redact",
    "shown",
    "without_passwords",
]
