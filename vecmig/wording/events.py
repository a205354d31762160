"""Events of the history in words: what was done, with its figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from vecmig.ledger.rows import EventRow
from vecmig.text import count, counted, data_size, duration, percent
from vecmig.wording.names import Naming

_Words = Callable[[EventRow, Naming], str]


def who(event: EventRow) -> str:
    """Say who it was, and from which host."""
    if event.host:
        return f"{event.role} on {event.host}"
    return event.role if event.version != "SQL" else f"{event.role} by SQL"


def what(event: EventRow, name: Naming) -> str:
    """Say what was done, with its figures; an event that is not known is shown as it was written."""
    try:
        text = _WORDS[event.kind.replace(" ", "_")](event, name)
    except (KeyError, TypeError, ValueError, AttributeError):
        # another version, or somebody else, wrote it
        data = json.dumps(dict(event.data), ensure_ascii=False) if event.data else ""
        text = " ".join(filter(None, (event.kind, name(event.tag) if event.tag else "", data)))
    else:
        why = event.data.get("reason") if event.kind in _WITH_REASON else None
        text += f": {why}" if why else ""
    return " ".join(text.split())


def sources(event: EventRow) -> str:
    """Name revision and commit, as far as they are known."""
    commit = f"commit {event.git_commit[:7]}" if event.git_commit else ""
    return ", ".join(filter(None, (f"revision {event.revision}" if event.revision else "", commit)))


def _tag(event: EventRow, name: Naming) -> str:
    return name(event.tag) if event.tag else "no tag"


def _expand(event: EventRow, name: Naming) -> str:
    if "index" in event.data:
        return f"began another index of {_tag(event, name)}"
    return f"expanded for {_tag(event, name)}: {count(event.data['dims'])} dimensions"


def _backfill(event: EventRow, name: Naming) -> str:
    written, seconds = event.data["written"], event.data["seconds"]
    rate = f" ({written / seconds:,.0f}/s)" if written and seconds else ""
    parts = [f"{counted(written, 'record')} embedded in {duration(seconds)}{rate}", *_figures(event.data)]
    return f"backfilled {_tag(event, name)}: {', '.join(parts)}"


def _adopt(event: EventRow, name: Naming) -> str:
    adopted, seconds = event.data["adopted"], event.data["seconds"]
    how = "left in place" if event.data["home"] == "column" else "copied"
    rate = f" ({adopted / seconds:,.0f}/s)" if adopted and seconds else ""
    embedded = [f"{counted(event.data['written'], 'record')} embedded"] if event.data["written"] else []
    parts = [f"{counted(adopted, 'vector')} {how} in {duration(seconds)}{rate}", *embedded, *_figures(event.data)]
    return f"adopted for {_tag(event, name)}: {', '.join(parts)}"


def _import(event: EventRow, name: Naming) -> str:
    data = event.data
    rate = f" ({data['records'] / data['seconds']:,.0f}/s)" if data["records"] and data["seconds"] else ""
    parts = [f"vectors for {counted(data['records'], 'record')} in {duration(data['seconds'])}{rate}", *_figures(data)]
    return f"imported for {_tag(event, name)}: {', '.join(parts)}"


def _sync(event: EventRow, name: Naming) -> str:
    adopted = [f"{counted(event.data['adopted'], 'vector')} taken over"] if event.data.get("adopted") else []
    parts = [*adopted, f"{counted(event.data['written'], 'record')} embedded", *_figures(event.data)]
    return f"synced {_tag(event, name)}: {', '.join(parts)}"


def _figures(data: Mapping[str, Any]) -> list[str]:
    rejected = [f"{count(data['rejected'])} rejected"] if data.get("rejected") else []
    return rejected + ([f"coverage {percent(data['coverage'])}"] if "coverage" in data else [])


def _index(event: EventRow, name: Naming) -> str:
    size = data_size(event.data["bytes"])
    if "vectors" not in event.data:
        return f"index of {_tag(event, name)} found: {size}"
    vectors = counted(event.data["vectors"], "vector")
    took = f" in {duration(event.data['seconds'])}" if "seconds" in event.data else ""
    return f"index of {_tag(event, name)} built: {vectors}, {size}{took}"


def _cutover(event: EventRow, name: Naming) -> str:
    before = event.data["from"]
    coverage = event.data.get("gate", {}).get("coverage")
    at = f", at a coverage of {percent(coverage)}" if coverage is not None else ""
    return f"cutover: reads moved from {name(before) if before else 'no tag'} to {_tag(event, name)}{at}"


def _rollback(event: EventRow, name: Naming) -> str:
    to = event.data["to"]
    return f"rollback: reads moved from {_tag(event, name)} back to {name(to) if to else 'no tag'}"


def _reindex(event: EventRow, name: Naming) -> str:
    step = "rollback" if event.data.get("back") else "cutover"
    return (
        f"{step}: searches of {_tag(event, name)} go by {event.data['to']}, before by {event.data['from'] or 'another'}"
    )


def _abandon(event: EventRow, name: Naming) -> str:
    left = "discarded" if event.data.get("discarded") else "kept"
    return f"abandoned {_tag(event, name)}, its vectors {left}"


def _failed(event: EventRow, _name: Naming) -> str:
    code = f" (exit code {event.data['exit_code']})" if event.data.get("exit_code") is not None else ""
    return f"{event.data['what']} failed{code}: {event.data['error']}"


def _stamp(event: EventRow, _name: Naming) -> str:
    changed = ", ".join(event.data["changed"]) or "nothing"
    return f"stamped as at {event.data['target']}; changed: {changed}"


def _retire(event: EventRow, name: Naming) -> str:
    vectors = f"{counted(event.data['vectors'], 'vector')} of {counted(event.data['records'], 'record')}"
    return f"retired {_tag(event, name)}: {vectors}, {data_size(event.data['bytes'])}"


def _retired(event: EventRow, name: Naming) -> str:
    return f"vectors of {_tag(event, name)} dropped: {data_size(event.data['bytes_freed'])} freed"


def _route(event: EventRow, name: Naming) -> str:
    data, parts = event.data, []
    if data["shadow_tag"] and data["shadow_share"]:
        kept = ", and are kept" if data.get("keep_queries") else ""
        parts.append(f"{percent(data['shadow_share'])} of searches ask {name(data['shadow_tag'])} too{kept}")
    if data["ramp_share"]:
        parts.append(f"the candidate serves {percent(data['ramp_share'])} of searches")
    return f"route: {'; '.join(parts) or 'no shadow reads, no ramp'}"


def _follow(event: EventRow, _name: Naming) -> str:
    made_good = event.data.get("made_good")
    if made_good:
        return f"made good: {'; '.join(made_good)}"
    return "triggers and live view followed collections.yaml or the source"


def _tune(event: EventRow, _name: Naming) -> str:
    none = {"concurrency": "default", "max_rate": "none"}
    settings = [
        f"{key.replace('_', '-')} {none.get(key, 'none') if value is None else f'{value:g}'}"
        for key, value in event.data.items()
    ]
    return f"tuned: {', '.join(settings)}"


def _uninstall(event: EventRow, _name: Naming) -> str:
    tags = event.data["tags"]
    vectors = counted(sum(tag["vectors"] for tag in tags), "vector")
    return f"uninstalled: {counted(len(tags), 'tag')} with {vectors}, {counted(len(event.data['pieces']), 'object')}"


def _adopt_source(event: EventRow, _name: Naming) -> str:
    before = event.data["from"]
    return f"source adopted: {event.data['to']}" + (f" in place of {before}" if before else "")


def _says(text: str) -> _Words:
    return lambda _event, _name: text


_WORDS: Final[Mapping[str, _Words]] = {
    "abandon": _abandon,
    "adopt-source": _adopt_source,
    "apply": _says("applied a revision without a collection"),
    "adopt": _adopt,
    "backfill": _backfill,
    "cutover": _cutover,
    "downgrade": _says("rolled back a revision without a collection"),
    "execute": lambda event, _name: f"ran statement {event.data['ordinal']} of {event.data['step']}()",
    "expand": _expand,
    "failed": _failed,
    "follow": _follow,
    "hold": _says("put on hold"),
    "import": _import,
    "index": _index,
    "move": lambda event, _name: f"vectors moved from schema {event.data['from']} to {event.data['to']}",
    "pause": _says("paused"),
    "reindex": _reindex,
    "release": _says("released from hold"),
    "resume": _says("resumed"),
    "retire": _retire,
    "retired": _retired,
    "forget_batches": lambda event, _name: f"no longer on order: {counted(event.data['texts'], 'text')}",
    "retry": lambda event, _name: f"to be tried again: {counted(event.data['records'], 'rejected record')}",
    "rollback": _rollback,
    "route": _route,
    "stamp": _stamp,
    "succeeded": lambda event, _name: f"{event.data['what']} succeeded, after a run that failed",
    "sync": _sync,
    # an earlier version wrote it for a downgrade
    "take_back": _says("rolled back a revision without a collection"),
    "tune": _tune,
    "uninstall": _uninstall,
    "untrack": lambda event, _name: f"untracked: {counted(len(event.data['triggers']), 'trigger')} dropped",
    "view_attach": _says("live view attached"),
    "view_detach": _says("live view detached"),
}
#: Kinds for which a person may have said why.
_WITH_REASON: Final = frozenset({"abandon", "hold", "pause", "reindex", "release", "retire", "rollback"})
