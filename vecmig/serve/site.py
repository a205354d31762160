"""The page as a web application, and as a file. It reads, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from vecmig import runner
from vecmig.about import version
from vecmig.config import Config
from vecmig.errors import VecmigError
from vecmig.runner import Overview, Pulse
from vecmig.serve.guard import Guard
from vecmig.serve.looks import EVERY, Looks
from vecmig.serve.metrics import registry
from vecmig.serve.page import page

_HERE: Final = Path(__file__).parent
#: Seconds between two looks at who is at work, which read no record.
_PULSE: Final = 2.0
#: Seconds after which a stream that has nothing to say shows that it is there.
_ALIVE: Final = 15.0
#: Seconds after which a stream looks whether the server is ending, and for which one that is answering may go on then.
_TICK: Final = 0.25
_GRACE: Final = 5
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Site:
    """Shows what was seen last, however many look."""

    def __init__(self, config: Config, *, every: float = EVERY, pulse_every: float = _PULSE) -> None:
        """Look at nothing yet.

        Args:
            config: the project.
            every: seconds between two looks that count records, at least.
            pulse_every: seconds between two looks at who is at work.
        """
        self._overviews: Looks[Overview] = Looks(lambda: runner.overview(config), every=every)
        self._pulses: Looks[Pulse] = Looks(lambda: runner.pulse(config), every=pulse_every)
        self._digests: Looks[str] = Looks(lambda: _digest(self.html()), every=pulse_every)

    def html(self) -> str:
        """Return the page."""
        return self._rendered(style="", style_hash="")

    def report(self) -> str:
        """Return the page as one file that needs no other.

        Raises:
            Exception: what kept it from being measured.
        """
        for error in (self._overviews.latest().error, self._pulses.latest().error):
            if error is not None:
                raise error
        style = (_HERE / "static" / "page.css").read_text(encoding="utf-8")
        return self._rendered(style=Markup(style), style_hash=f"sha256-{_digest(style)}")  # noqa: S704  # our own sheet

    def _rendered(self, **how: str) -> str:
        seen, pulse = self._overviews.latest(), self._pulses.latest()
        shown = None if seen.seen is None else page(seen.seen, pulse.seen)
        error = seen.error or pulse.error
        words = (error.message, error.state, error.hint) if isinstance(error, VecmigError) else (type(error).__name__,)
        what = [line for line in words if line] if error is not None else []
        return _TEMPLATES.get_template("page.html").render(
            page=shown, error=what, version=version(), now=datetime.now(UTC), **how
        )

    def application(self, *, token: str = "", ending: Callable[[], bool] = lambda: False) -> Guard:
        """Return the application.

        Args:
            token: what has to be known to look; empty for whoever asks under a name of this machine.
            ending: tells streams, which never end by themselves, that the server is.
        """
        return Guard(
            Starlette(
                routes=[
                    Route("/", self._page),
                    Route("/changes", partial(self._changes, ending)),
                    Route("/metrics", self._metrics),
                    Mount("/static", StaticFiles(directory=_HERE / "static")),
                ]
            ),
            token=token,
            ask=lambda refused: _TEMPLATES.get_template("token.html").render(refused=refused),
        )

    def _page(self, _request: Request) -> Response:
        return HTMLResponse(self.html())

    def _metrics(self, request: Request) -> Response:
        encoder, kind = choose_encoder(request.headers.get("accept", ""))
        made = registry(lambda: self._overviews.latest().of(lambda seen: seen.status))
        return Response(encoder(made), headers={"Content-Type": kind})

    async def _changes(self, ending: Callable[[], bool], request: Request) -> Response:
        told = self._told(ending, request) if request.method == "GET" else iter(())
        return StreamingResponse(told, media_type="text/event-stream")

    async def _told(self, ending: Callable[[], bool], request: Request) -> AsyncIterator[str]:
        """Tell a browser each time that the page is another one."""
        shown, silent = (await run_in_threadpool(self._digests.latest)).seen, 0.0
        yield "retry: 5000\n\n"
        while not ending() and not await request.is_disconnected():
            await asyncio.sleep(_TICK)
            silent += _TICK
            if (now := (await run_in_threadpool(self._digests.latest)).seen) != shown:
                shown, silent = now, 0.0
                yield "event: changed\ndata:\n\n"
            elif silent >= _ALIVE:
                silent = 0.0
                yield ":\n\n"


def _digest(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def serve(config: Config, listening: socket.socket, *, token: str = "") -> None:
    """Answer browsers and scrapes until SIGTERM or Ctrl-C."""

    def ending() -> bool:
        return server.should_exit

    settings = uvicorn.Config(
        Site(config).application(token=token, ending=ending),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = uvicorn.Server(settings)
    server.run(sockets=[listening])
