"""Python programs as processes of their own that begin with what they import: a fork of one that has imported it.

Most of what a process of a test costs is what it imports before it does anything. Everything else is a process's own:
its pid, its signals, its streams, its environment, its end. What is imported when, and how a program starts, is
therefore tested with ``subprocess``; and a system without pidfds has nothing else.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

#: What vecmig imports until it has embedded a text, here or at a provider.
VECMIG: Final = ("vecmig.cli.app", "vecmig.runner", "vecmig.embedders.openai", "vecmig.embedders.wordllama")
#: Python reads these before our code runs, or a module when it is imported: a fork cannot have others than its parent.
_EARLY: Final = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "OPENBLAS_", "OPENAI_LOG")
#: Where a fork finds what is not installed; those of the parent are a fork's, too, after its own.
_PLACES: Final = "PYTHONPATH"
_ROOT: Final = Path(__file__).resolve().parents[2]
_LARGEST: Final = 1 << 20
#: Begins the parent, whose main module must be empty.
_BEGIN: Final = """
import sys
sys.path.remove("")
from support.forking import serve
serve(int(sys.argv[1]))
"""


class _Parent:
    """The process that imports and forks; it ends with this one."""

    def __init__(self, early: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket, self._lock = ours, threading.Lock()
        others = {name: value for name, value in os.environ.items() if not name.startswith(_EARLY)}
        places = os.pathsep.join(map(str, (_ROOT, _ROOT / "tests")))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=others | dict(early) | {_PLACES: places},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def ask(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> int:
        """Have it done: a fork, which gives a pid, or the exit status of one."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            answer = self._socket.recv(_LARGEST)
        assert answer, "the process that forks has ended"
        return int(answer)


_parents: dict[tuple[tuple[str, str], ...], _Parent] = {}


def _parent(environment: Mapping[str, str]) -> _Parent:
    early = {name: environment[name] for name in sorted(environment) if name.startswith(_EARLY) and name != _PLACES}
    key = tuple(early.items())
    if key not in _parents:
        _parents[key] = _Parent(early)
    return _parents[key]


class Python(subprocess.Popen[str]):
    """``python …`` in the background, with what ``imports`` names imported; otherwise what ``Popen`` is.

    args: what follows ``python``: ``-m`` and a module, ``-c`` and code, or a script; and their arguments.
    """

    def __init__(
        self,
        args: Sequence[str | Path],
        *,
        imports: Sequence[str] = VECMIG,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._imports = imports
        environment = {"PYTHONUTF8": "1"} | dict(os.environ if env is None else env)
        super().__init__([sys.executable, *map(str, args)], env=environment, text=True, encoding="utf-8", **options)

    if hasattr(os, "pidfd_open"):

        def _execute_child(self, args: list[str], *others: Any) -> None:
            """Start it: the one thing that ``Popen`` leaves to the system and that is different here."""
            _, _, _, _, cwd, env, _, _, _, *streams, _, gid, gids, uid, umask, own_group, group = others
            assert (gid, gids, uid, umask, group) == (None, None, None, -1, -1)
            stdin, _, _, stdout, _, stderr = streams
            request = {
                "args": args[1:],
                "imports": self._imports,
                "cwd": str(cwd or Path.cwd()),
                "environment": env,
                "own_group": own_group,
            }
            given = [own if own != -1 else number for number, own in enumerate((stdin, stdout, stderr))]
            self._parent = _parent(env)
            self.pid = self._parent.ask(request, given)
            self._child_created = True
            # the pid stays its own until we ask for its exit status
            self._end = os.pidfd_open(self.pid)
            self._close_pipe_fds(*streams)  # type: ignore[attr-defined]

        def _wait(self, timeout: float | None) -> int | None:
            with self._waitpid_lock:  # type: ignore[attr-defined]
                if self.returncode is None:
                    poll = select.poll()
                    poll.register(self._end, select.POLLIN)
                    if not poll.poll(None if timeout is None else max(timeout, 0) * 1000):
                        raise subprocess.TimeoutExpired(self.args, timeout or 0)
                    status = self._parent.ask({"reap": self.pid})
                    os.close(self._end)
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

        def _internal_poll(self, _deadstate: int | None = None) -> int | None:
            try:
                return self._wait(0)
            except subprocess.TimeoutExpired:
                return None


def new_python(args: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
    """Begin ``python …`` in the background without a fork."""
    return subprocess.Popen([sys.executable, *map(str, args)], text=True, encoding="utf-8", **options)


def run_python(
    args: Sequence[str | Path], *, imports: Sequence[str] = VECMIG, timeout: float = 300, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``python …`` to its end, without input; no exit code is expected."""
    nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
    with Python(args, imports=imports, stdin=nothing, stdout=pipe, stderr=pipe, **options) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


# The other side ------------------------------------------------------------------------------------------------------


def serve(number: int) -> None:
    """Fork for each request on this socket, until nobody can ask any more; in a fork, run its program."""
    # a Ctrl-C at the tests is theirs
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=number) as asked:
        while True:
            message, descriptors, _, _ = socket.recv_fds(asked, _LARGEST, 3)
            if not message:
                return
            request = json.loads(message)
            if "reap" in request:
                answer = os.waitpid(request["reap"], 0)[1]
            else:
                answer = _fork(request["imports"])
                if answer == 0:
                    break
                for descriptor in descriptors:
                    os.close(descriptor)
            asked.send(str(answer).encode())
    _take_over(request, descriptors)
    _run(request["args"])


def _fork(imports: Sequence[str]) -> int:
    for name in imports:
        importlib.import_module(name)
    # what is never collected is not copied either
    gc.freeze()
    assert len(os.listdir("/proc/self/task")) == 1, f"a thread does not survive a fork: {imports}"  # noqa: PTH208
    return os.fork()


def _take_over(request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Make this fork what a new process would be."""
    if request["own_group"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # the parent's know what can be done with the parent's files
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, _stream(number, getattr(sys, name)))
        setattr(sys, f"__{name}__", getattr(sys, name))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get(_PLACES, "").split(os.pathsep))


def _stream(number: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """Open a standard stream as Python does."""
    if number == 0:
        return open(number, encoding=like.encoding, errors=like.errors, closefd=False)
    at_once = like.write_through
    file = open(number, "wb", 0 if at_once else -1, closefd=False)  # noqa: SIM115
    by_line = not at_once and (number == 2 or file.isatty())
    return io.TextIOWrapper(file, like.encoding, like.errors, line_buffering=by_line, write_through=at_once)


def _run(args: Sequence[str]) -> None:
    """Do what ``python`` does with these arguments."""
    main = sys.modules["__main__"]
    del main.serve
    how, *rest = args
    sys.orig_argv[1:] = args
    if how == "-m":
        sys.path.insert(0, str(Path.cwd()))
        sys.argv[:] = rest
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
    elif how == "-c":
        sys.path.insert(0, "")
        sys.argv[:] = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    else:
        sys.path.insert(0, str(Path(how).resolve().parent))
        sys.argv[:] = args
        main.__file__ = str(Path(how).absolute())
        exec(compile(Path(how).read_bytes(), main.__file__, "exec"), vars(main))
