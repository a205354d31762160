"""The Batch API beside the embeddings of ``provider.py``: files and batches that go the ways we have seen.

A batch is taken, waits, and ends as its next ``Course`` says; without one it is completed at the second look.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MOST_INPUTS: Final = 50_000


@dataclass
class Course:
    """What becomes of one batch."""

    #: completed, expired, cancelled, failed, or stuck, which never ends.
    end: str = "completed"
    #: Looks until then.
    looks: int = 1
    #: Share of the lines that are answered before it expires, or is cancelled.
    share: float = 1.0
    #: failed: the code and the message.
    code: str = "invalid_json_line"
    message: str = "This line is not parseable as valid JSON."
    #: Lines whose text has the marker get this status.
    status: int = 400
    marker: str = "POISON"
    #: Whether the request that orders it is answered only after so many seconds, or never: the client was killed.
    delay: float = 0.0
    #: The dims of the answers, where not those of the request.
    dims: int | None = None
    #: Whether the answers say what they cost.
    counted: bool = True


@dataclass
class BatchApi:
    """Files and batches; every access under its lock."""

    answer: Callable[[Mapping[str, Any], list[str]], dict[str, Any]]
    lock: threading.RLock = field(default_factory=threading.RLock)
    files: dict[str, bytes] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    courses: list[Course] = field(default_factory=list)
    #: The texts of each batch that were embedded, so paid for.
    paid: list[list[str]] = field(default_factory=list)
    #: Most tokens that may wait or be at work, a token for four characters of input.
    room: int | None = None
    #: Requests, as ``POST /batches``, that are done and answered with a web page, or a status, so many times.
    garbled: dict[str, list[Any]] = field(default_factory=dict)
    _course: dict[str, Course] = field(default_factory=dict)
    _looks: dict[str, int] = field(default_factory=dict)

    def garble(self, request: str, answer: tuple[int, bytes]) -> tuple[int, bytes]:
        """Spoil an answer where that is wanted."""
        with self.lock:
            for wanted, rest in self.garbled.items():
                if re.fullmatch(wanted, request) and rest[1] > 0:
                    rest[1] -= 1
                    return (rest[0], _error("Bad gateway.")) if rest[0] != 200 else (200, b"<html>Welcome</html>")
        return answer

    def get(self, path: str) -> tuple[int, bytes]:
        """Answer a GET; the path has no version before it."""
        with self.lock:
            if found := re.fullmatch(r"/files/([\w-]+)/content", path):
                content = self.files.get(found[1])
                return (404, _error("No such File object.")) if content is None else (200, content)
            if found := re.fullmatch(r"/batches/([\w-]+)", path):
                return self._look(found[1])
            if path.startswith("/batches"):
                after = re.search(r"after=([\w-]+)", path)
                newest = list(self.batches.values())[::-1]
                if after:
                    newest = newest[[batch["id"] for batch in newest].index(after[1]) + 1 :]
                return 200, json.dumps({"object": "list", "data": newest[:2], "has_more": len(newest) > 2}).encode()
        return 404, _error(f"Not found: {path}")

    def delete(self, path: str) -> tuple[int, bytes]:
        """Answer a DELETE."""
        with self.lock:
            name = path.removeprefix("/files/")
            if self.files.pop(name, None) is None:
                return 404, _error("No such File object.")
            self.deleted.append(name)
            return 200, json.dumps({"id": name, "object": "file", "deleted": True}).encode()

    def post(self, path: str, kind: str, body: bytes) -> tuple[int, bytes]:
        """Answer a POST."""
        if path == "/files":
            return self._upload(kind, body)
        if path == "/batches":
            return self._order(json.loads(body))
        return 404, _error(f"Not found: {path}")

    def _upload(self, kind: str, body: bytes) -> tuple[int, bytes]:
        boundary = b"--" + kind.partition("boundary=")[2].encode()
        parts = {}
        for part in body.split(boundary)[1:-1]:
            head, _, content = part.strip(b"\r\n").partition(b"\r\n\r\n")
            name = re.search(rb'name="(\w+)"', head)
            assert name is not None, head
            parts[name[1].decode()] = content
        assert parts["purpose"] == b"batch"
        with self.lock:
            name_of_file = self._new("file", parts["file"].rstrip(b"\n") + b"\n")
        return 200, json.dumps(_file(name_of_file, len(parts["file"]))).encode()

    def _new(self, prefix: str, content: bytes) -> str:
        name = f"{prefix}-{len(self.files) + len(self.deleted) + 1}"
        self.files[name] = content
        return name

    def _order(self, body: Mapping[str, Any]) -> tuple[int, bytes]:
        with self.lock:
            if body["input_file_id"] not in self.files:
                return 400, _error("No such input file.")
            course = self.courses.pop(0) if self.courses else Course()
            name = f"batch-{len(self.batches) + 1}"
            lines = self.files[body["input_file_id"]].splitlines()
            counts = {"total": len(lines), "completed": 0, "failed": 0}
            self.batches[name] = {
                "id": name,
                "object": "batch",
                "endpoint": body["endpoint"],
                "completion_window": body["completion_window"],
                "created_at": int(time.time()),
                "input_file_id": body["input_file_id"],
                "status": "validating",
                "metadata": body.get("metadata"),
                "request_counts": counts,
            }
            self._course[name], self._looks[name] = course, 0
            answer = json.dumps(self.batches[name]).encode()
        time.sleep(course.delay)
        return 200, answer

    def _look(self, name: str) -> tuple[int, bytes]:
        if name not in self.batches:
            return 404, _error(f"No batch found with id '{name}'.")
        batch, course = self.batches[name], self._course[name]
        self._looks[name] += 1
        if batch["status"] in ("validating", "in_progress"):
            if self._has_no_room(name):
                self._fail(
                    batch,
                    "token_limit_exceeded",
                    f"Enqueued token limit reached. Limit: {self.room:,} enqueued tokens.",
                )
            elif self._looks[name] > course.looks and course.end != "stuck":
                self._end(batch, course)
            else:
                batch["status"] = "in_progress"
        return 200, json.dumps(batch).encode()

    def _has_no_room(self, name: str) -> bool:
        if self.room is None or self.batches[name]["status"] != "validating":
            return False
        at_work = [one for one, batch in self.batches.items() if batch["status"] == "in_progress"]
        return sum(self._tokens(one) for one in [*at_work, name]) > self.room

    def _tokens(self, name: str) -> int:
        lines = self.files[self.batches[name]["input_file_id"]].splitlines()
        return sum(len(json.loads(line)["body"]["input"]) // 4 + 1 for line in lines)

    def _fail(self, batch: dict[str, Any], code: str, message: str) -> None:
        batch["status"] = "failed"
        batch["errors"] = {"object": "list", "data": [{"code": code, "message": message, "line": None, "param": None}]}

    def _end(self, batch: dict[str, Any], course: Course) -> None:
        if course.end == "failed":
            self._fail(batch, course.code, course.message)
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        names = [line["custom_id"] for line in lines]
        assert len(lines) <= MOST_INPUTS
        assert len(set(names)) == len(names), "a name stands twice"
        random.Random(20).shuffle(lines)
        answered = {line["custom_id"] for line in lines[: round(course.share * len(lines))]}
        good, bad, paid = [], [], []
        for line in lines:
            assert (line["method"], line["url"]) == ("POST", "/v1/embeddings")
            text = line["body"]["input"]
            if line["custom_id"] not in answered:
                error = {"code": f"batch_{course.end}", "message": "This request could not be executed in time."}
                bad.append({"custom_id": line["custom_id"], "response": None, "error": error})
            elif course.marker in text:
                body = {"error": {"message": f"Refused with {course.status}.", "type": "invalid_request_error"}}
                bad.append(_line(line["custom_id"], course.status, body))
            else:
                asked = line["body"] if course.dims is None else line["body"] | {"dimensions": course.dims}
                body = self.answer(asked, [text])
                good.append(_line(line["custom_id"], 200, body if course.counted else body | {"usage": None}))
                paid.append(text)
        self.paid.append(paid)
        batch["status"] = course.end
        batch["request_counts"] = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        for field_name, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                batch[field_name] = self._new("answers", b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def _line(name: str, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    response = {"status_code": status, "request_id": f"req-{name}", "body": body}
    return {"id": f"line-{name}", "custom_id": name, "response": response, "error": None}


def _file(name: str, size: int) -> dict[str, Any]:
    about = {"bytes": size, "created_at": int(time.time()), "filename": "batch.jsonl"}
    return {"id": name, "object": "file", "purpose": "batch", "status": "processed"} | about


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": None}}).encode()
