"""A Kibana client, which authenticates, sends requests, and turns failures into errors that name the remedy."""

from __future__ import annotations

import re
from collections.abc import Container
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from streamscore.config import Kibana as Settings
from streamscore.errors import ServerError

if TYPE_CHECKING:
    from requests import Response

_TIMEOUT: Final = (5.0, 60.0)
"""Timeouts in seconds: to connect, and for an answer."""


class Kibana:
    """A connection to one space of a Kibana."""

    def __init__(self, settings: Settings) -> None:
        import requests

        self.settings = settings
        self._root = settings.url.rstrip("/")
        self._session = requests.Session()
        # Only the configuration counts: no proxy, certificate or .netrc file of the environment.
        self._session.trust_env = False
        self._session.headers["kbn-xsrf"] = "true"
        self._session.verify = True if settings.ca_file is None else str(settings.ca_file)
        if settings.api_key is not None:
            self._session.headers["Authorization"] = f"ApiKey {settings.api_key.get_secret_value()}"
        if settings.user is not None and settings.password is not None:
            self._session.auth = (settings.user, settings.password.get_secret_value())

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    @property
    def prefix(self) -> str:
        """Prefix of our objects' ids, which differs between spaces because an id is global."""
        return "streamscore" if self.settings.space == "default" else f"streamscore-{self.settings.space}"

    def version(self) -> tuple[tuple[int, int], str]:
        """Return Kibana's version, as numbers to compare and as text.

        Raises:
            ServerError: Kibana does not answer, is not ready, or hides its version.
        """
        answer = self.ask("GET", "/api/status", allowed={HTTPStatus.SERVICE_UNAVAILABLE})
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise ServerError(f"Kibana at {self._root} is not ready yet: try again in a minute")
        text = str(json_of(answer).get("version", {}).get("number", ""))
        number = re.match(r"(\d+)\.(\d+)", text)
        if number is None:
            raise ServerError(
                f"Kibana at {self._root} shows its version only to clients that are signed in: set "
                "kibana.user and .password, or kibana.api_key"
            )
        return (int(number[1]), int(number[2])), text

    def require_space(self) -> None:
        """Check that the space exists, because Kibana accepts objects for a missing space.

        Raises:
            ServerError: the space does not exist.
        """
        space = self.settings.space
        if space == "default":
            return
        answer = self.ask("GET", f"/api/spaces/space/{space}", allowed={HTTPStatus.NOT_FOUND})
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise ServerError(f"Kibana at {self._root} has no space {space!r}: see kibana.space")

    def ask_space(self, method: str, path: str, allowed: Container[int] = (), **content: Any) -> Response:
        """Send a request to the configured space.

        Args:
            method: the HTTP method.
            path: the path below the space's path.
            allowed: status codes of 400 and above that are returned and not raised.
            content: the body, as arguments of ``requests``.

        Raises:
            ServerError: Kibana does not answer, or with another status code.
        """
        inside = "" if self.settings.space == "default" else f"/s/{self.settings.space}"
        return self.ask(method, f"{inside}{path}", allowed=allowed, **content)

    def ask(self, method: str, path: str, allowed: Container[int] = (), **content: Any) -> Response:
        """Send a request and return its answer.

        Args:
            method: the HTTP method.
            path: the path below Kibana's address.
            allowed: status codes of 400 and above that are returned and not raised.
            content: the body, as arguments of ``requests``.

        Raises:
            ServerError: Kibana does not answer, or with another status code.
        """
        import requests

        url = f"{self._root}{path}"
        try:
            answer = self._session.request(method, url, timeout=_TIMEOUT, allow_redirects=False, **content)
        except requests.exceptions.SSLError as error:
            raise ServerError(
                f"no secure connection to Kibana at {self._root} ({_reason(error)}): see kibana.ca_file"
            ) from None
        except requests.RequestException as error:
            raise ServerError(
                f"no Kibana answers at {self._root} ({_reason(error)}): is it running? See kibana.url, or --url"
            ) from None
        except OSError as error:  # of kibana.ca_file
            raise ServerError(f"no secure connection to Kibana at {self._root} ({error}): see kibana.ca_file") from None
        if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise ServerError(
                f"Kibana at {self._root} refuses the credentials ({answer.status_code}, {method} {path}): see "
                "kibana.user, .password and .api_key; the user needs all of Dashboard, Visualize Library, Data View "
                "Management, Saved Objects Management and Stack Rules"
            )
        if answer.is_redirect:
            raise ServerError(
                f"Kibana at {self._root} sends us on to {answer.headers['Location']}: does kibana.url lack the base "
                "path, or https?"
            )
        if not answer.ok and answer.status_code not in allowed:
            raise ServerError(
                f"Kibana at {self._root} refused {method} {path} ({answer.status_code}): {_message(answer)}"
            )
        return answer


def json_of(answer: Response) -> dict[str, Any]:
    """Return the body of an answer.

    Raises:
        ServerError: the body is not a JSON object.
    """
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ServerError(f"{answer.url} answers, but not as Kibana does: see kibana.url, or --url")
    return body


def _message(answer: Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200] or answer.reason


def _reason(error: Exception) -> str:
    """Return the innermost cause; the outer ones repeat the address and name Python classes."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    inner = getattr(error, "reason", None)
    return _reason(inner) if isinstance(inner, Exception) else str(error).rsplit(": ", 1)[-1]
