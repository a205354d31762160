"""Put collections that adopt vectors into a project: into its collections.yaml, and a first revision of each."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from vecmig.config import Config
from vecmig.config.collections import Collections, load_collections
from vecmig.config.collections_text import with_entries
from vecmig.errors import ConfigError, UsageError, VecmigError
from vecmig.model.recipe import recipe_problems
from vecmig.model.tag import Tag
from vecmig.runner.verbs.discover import Discovery, Offer
from vecmig.runner.verbs.discover.offers import UNKNOWN_MODEL, UNKNOWN_PROVIDER
from vecmig.script import ScriptDirectory
from vecmig.script.adopt_call import AdoptCall
from vecmig.script.generate import first_revisions
from vecmig.script.patterns import matching
from vecmig.script.project import is_example
from vecmig.text import count, shown

_MANY = 5


def write_discovered(config: Config, discovery: Discovery) -> tuple[Path, ...]:
    """Write what was discovered into the project, and return the files; none where all of it is there.

    A collection that collections.yaml has is left as it is; one without a revision gets its first, and tables of which
    there are many get one together. What a script over a pattern is for already gets none of its own. An example that
    ``vecmig init`` has written gives way.

    Raises:
        UsageError: it is not known which model made vectors, or who serves it.
        ConfigError, ScriptError: a file cannot be written; what is written stays.
    """
    offers = [one for one in discovery.offers if one.revision is None]
    if not offers:
        return ()
    scripts = ScriptDirectory(config)
    _ = scripts.scripts
    path, written, text = config.collections_path, [], ""
    if path.exists() and not is_example(path, config.template):
        # its line ends are kept
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    known = load_collections(path) if text else Collections(path, {}, {})
    new = [one for one in offers if not one.configured]
    _refuse_unknown(new, known)
    if new:
        recipes = {one.tag: one.recipe for one in new if one.tag not in known.recipes and one.taken_in is None}
        _replace(path, with_entries(path, text, [one.collection for one in new], list(recipes.values())))
        written.append(path)
        scripts.reload()
    collections = load_collections(path)
    try:
        begin = [one for one in offers if one.taken_in is None]
        for one in begin:
            tag = collections.collection(one.name).tag
            if tag is not None and Tag.parse(tag).dims != one.proposal.dims:
                raise ConfigError(
                    f"Collection {one.name}: the vectors to adopt have {count(one.proposal.dims)} dims, and its tag is "
                    f"{tag}.",
                    hint=f"Ask for the tag of their model in {shown(path)}",
                )
        made = first_revisions(scripts, collections, _calls(begin, collections))
    except VecmigError as error:
        error.state = f"{shown(path)} is written, and no revision is." if new else "Nothing was written."
        raise
    return (*written, *(script.path for script in made))


def _calls(offers: Sequence[Offer], collections: Collections) -> dict[str, AdoptCall]:
    """Return what first revisions are to call, by their collections, or by the pattern where all of it is alike."""
    calls = {}
    for one in offers:
        wanted = collections.collection(one.name).tag
        alike = {
            other.name
            for other in offers
            if other.pattern == one.pattern
            and other.proposal.call == one.proposal.call
            and collections.collection(other.name).tag == wanted
        }
        shared = one.pattern is not None and alike == set(matching(one.pattern, collections.collections))
        calls[one.pattern if shared and one.pattern else one.name] = one.proposal.call
    return calls


def _refuse_unknown(offers: Sequence[Offer], known: Collections) -> None:
    nameless = [one for one in offers if one.model is None]
    if nameless:
        listed = "\n".join(f"  {one.write_command}  # {count(one.proposal.dims)} dims" for one in nameless[:_MANY])
        more = f"\n  and {len(nameless) - _MANY} more" if len(nameless) > _MANY else ""
        raise UsageError(
            "No table says which model made its vectors, and a tag has to.",
            state="Nothing was written.",
            hint=f"Say it in place of {UNKNOWN_MODEL}:\n{listed}{more}",
        )
    said = sorted({one.proposal.dims for one in offers if one.said})
    if len(said) > 1:
        raise UsageError(
            f"--model is said of vectors of {' and of '.join(count(dims) for dims in said)} dims.",
            state="Nothing was written.",
            hint="Name the tables or collections that it made: vecmig discover NAME --write --model …",
        )
    for one in offers:
        if one.tag in known.recipes or one.taken_in is not None:
            continue
        if one.provider is None:
            raise UsageError(
                f"It is not known who serves {one.model}.",
                state="Nothing was written.",
                hint=f"Say it in place of {UNKNOWN_PROVIDER}, one of openai, sentence-transformers and wordllama "
                f"(openai is each server that speaks its protocol): {one.write_command}",
            )
        wrong = next(recipe_problems(Tag.parse(one.tag), {"provider": one.provider, "dims": one.proposal.dims}), None)
        if wrong is not None:
            raise UsageError(
                f"--provider {one.provider} gives no recipe of {one.tag}: {wrong[1]}.",
                state="Nothing was written.",
                hint="Write its recipe into collections.yaml by hand: see docs/configuration.md",
            )


def _replace(path: Path, text: str) -> None:
    """Write collections.yaml, once it was read back from a draft."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        load_collections(draft)
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, draft)
        draft.replace(path)
    except ConfigError as error:
        what = error.message.replace(shown(draft), f"{shown(path)}, with what would be added")
        raise ConfigError(what, state="Nothing was written.", hint=error.hint) from None
    except OSError as error:
        raise ConfigError(
            f"{shown(path)} cannot be written: {error.strerror}.", state="Nothing was written."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
