"""An OpenAI-compatible server: the SDK's client for it, what is sent with each request, and what its failures mean."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import openai

from vecmig.config import address
from vecmig.embedders import openai_request
from vecmig.embedders.connection_errors import Route, proxy_refusal, unreached
from vecmig.embedders.environment import certificates, find_proxy
from vecmig.embedders.http import Client
from vecmig.embedders.keys import OPENAI_URL, address_secrets, base_url, find_key
from vecmig.embedders.openai_errors import Told, classified
from vecmig.embedders.secrets import Secrets
from vecmig.errors import EmbedderError, TerminalEmbedderError
from vecmig.model.recipe import Recipe, is_openai

T = TypeVar("T")


class Server:
    """What a recipe reaches. The SDK's own retrying is off: ``Retry`` has it."""

    def __init__(self, recipe: Recipe, environ: Mapping[str, str]) -> None:
        """Make the client; nothing is sent yet.

        Raises:
            RecipeError: the address is none, or a variable is not set.
            TerminalEmbedderError: there is no key.
        """
        written, url = (recipe.service.base_url or OPENAI_URL).rstrip("/"), base_url(recipe, environ)
        self.is_openai = is_openai(url)
        #: The server as messages name it, without what may be a key.
        self.address = address(written, url)
        service = f"The provider at {self.address}"
        key = find_key(recipe, environ, url=url, service=service)
        network = ChainMap(dict(environ), os.environ)
        proxy = find_proxy(url, network)
        hidden = (*openai_request.secrets(recipe, environ), *address_secrets(written, url, environ))
        self._secrets = Secrets([key.value, *hidden, *(() if proxy is None else proxy.secrets)])
        self._secrets.watch_logs()
        model_field = "request_model" if recipe.service.request_model else "model"
        self.told = Told(service, self._secrets, key, model_field)
        self._route = Route(service, urlsplit(url).netloc, proxy)
        # A server without keys is sent none, rather than an invented one.
        bearer = f"Bearer {key.value}" if key.value else openai.omit
        self.headers = {"Authorization": bearer, **openai_request.headers(recipe, environ)}
        self.options: openai.RequestOptions = {"headers": self.headers}
        self.http = Client(
            seconds=recipe.service.timeout,
            proxy=None if proxy is None else proxy.opened(network),
            ssl_context=certificates(network) if url.startswith("https:") else None,
        )
        self.client = openai.OpenAI(
            api_key=key.value or "none",
            base_url=url,
            max_retries=0,
            default_headers=None if self.is_openai else openai_request.without_ambient(),
            http_client=self.http,
        )

    def ask(self, work: Callable[[], T]) -> T:
        """Do what sends a request with ``client``.

        Raises:
            EmbedderError: it failed; neither the message nor what it was raised from holds a secret.
        """
        failed: EmbedderError
        try:
            return self._translated(work)
        except EmbedderError as error:
            failed = error
        except Exception as error:  # noqa: BLE001  # whatever it is, it may quote the answer or the request
            what = f"{type(error).__name__}: {self._secrets.quoted(str(error))}"
            failed = TerminalEmbedderError(f"{self.told.service}: {what}")
            failed.__cause__ = error
        raise self.cleansed(failed)

    def cleansed(self, error: EmbedderError) -> EmbedderError:
        """Return a failure without secrets: what it was raised from, too, holds the answer, the address and headers."""
        return self._secrets.cleanse(error)

    def _translated(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except openai.APIConnectionError as error:
            raise unreached(error, self._route, answered=self.http.answered) from error
        except openai.OpenAIError as error:
            if isinstance(error, openai.APIStatusError) and (refusal := proxy_refusal(error, self._route)):
                raise refusal from error
            raise classified(error, self.told) from error

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
