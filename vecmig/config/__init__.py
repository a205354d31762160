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
from vecmig.config.ini import EMBEDDED, ENGINES, FILE_TOKENS, Config, Engine, load_config
from vecmig.config.suites import (
    DEFAULT_K,
    Query,
    Suite,
    WrittenKey,
    load_suite,
    suite_path,
    suite_paths,
    suites_folder,
)
from vecmig.config.words import nearest, redact, shown, without_passwords

__all__ = [
    "DEFAULT_K",
    "EMBEDDED",
    "ENGINES",
    "FILE_TOKENS",
    "INDEX_DIMS",
    "VECTOR_COLUMNS",
    "ChangeTracking",
    "Collection",
    "Collections",
    "Config",
    "Engine",
    "Hnsw",
    "Metric",
    "Query",
    "Storage",
    "Suite",
    "WrittenKey",
    "index_problem",
    "load_collections",
    "load_config",
    "load_suite",
    "nearest",
    "recipe_lines",
    "redact",
    "shown",
    "suite_path",
    "suite_paths",
    "suites_folder",
    "without_passwords",
]
