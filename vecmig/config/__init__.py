"""The project's two configuration files: vecmig.ini and collections.yaml."""

from vecmig.config.ini import load_config
from vecmig.config.redaction import address, is_keyless, is_keyless_header, origin, redact, without_passwords
from vecmig.config.settings import EMBEDDED, ENGINES, FILE_TOKENS, LOCK_TIMEOUT, UNLIMITED, Config, Engine
from vecmig.config.sql_text import fragment_problem

__all__ = [
    "EMBEDDED",
    "ENGINES",
    "FILE_TOKENS",
    "LOCK_TIMEOUT",
    "UNLIMITED",
    "Config",
    "Engine",
    "address",
    "collections",
    "collections_text",
    "fragment_problem",
    "is_keyless",
    "is_keyless_header",
    "known_findings",
    "load_config",
    "origin",
    "recipe_line",
    "redact",
    "suites",
    "without_passwords",
]
