"""The project's two configuration files: vecmig.ini and collections.yaml."""

from vecmig.config.collections import Collections, load_collections, recipe_lines
from vecmig.config.ini import load_config
from vecmig.config.redaction import address, is_keyless, is_keyless_header, origin, redact, without_passwords
from vecmig.config.settings import EMBEDDED, ENGINES, FILE_TOKENS, UNLIMITED, Config, Engine
from vecmig.config.sql_text import fragment_problem
from vecmig.config.suites import (
    DEFAULT_K,
    KNOWN_ITEM,
    Query,
    Suite,
    WrittenKey,
    load_suite,
    suite_path,
    suite_paths,
    suites_folder,
)

__all__ = [
    "DEFAULT_K",
    "EMBEDDED",
    "ENGINES",
    "FILE_TOKENS",
    "KNOWN_ITEM",
    "UNLIMITED",
    "Collections",
    "Config",
    "Engine",
    "Query",
    "Suite",
    "WrittenKey",
    "address",
    "fragment_problem",
    "is_keyless",
    "is_keyless_header",
    "load_collections",
    "load_config",
    "load_suite",
    "origin",
    "recipe_lines",
    "redact",
    "suite_path",
    "suite_paths",
    "suites_folder",
    "without_passwords",
]
