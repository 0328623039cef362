"""Who may see the page and use the API."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from ipaddress import ip_address
from math import ceil
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from stepstream.files import FileWatch
from stepstream.settings import HttpSettings
from stepstream.web.answers import read_page, refuse
from stepstream.web.bodies import Bodies, TooLarge

if TYPE_CHECKING:
    from pydantic import SecretStr
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Access"]

logger = logging.getLogger(__name__)

PROTECTED = ("/v1/", "/performance/", "/performance")
OPEN = ("/performance/static/", "/performance/login")
COOKIE = "stepstream-page"
MAX_FORM_BYTES = 4 << 10
MAX_WRONG = 10
"""Wrong tokens that a peer may give on the form in a time of `WRONG_S`."""
WRONG_S = 60.0
MAX_PEERS = 1_000
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class _Throttle:
    """Wrong tokens of peers, the last `MAX_PEERS` of them."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, peer: str) -> int:
        """How long a peer has to wait before it may try again."""
        count, until_s = self._wrong.get(peer, (0, 0.0))
        return max(0, ceil(until_s - time.monotonic())) if count >= MAX_WRONG else 0

    def note_wrong(self, peer: str) -> None:
        now_s = time.monotonic()
        count, until_s = self._wrong.pop(peer, (0, 0.0))
        if until_s <= now_s:
            count, until_s = 0, now_s + WRONG_S
        self._wrong[peer] = count + 1, until_s
        if len(self._wrong) > MAX_PEERS:
            self._wrong.popitem(last=False)


class Access:
    """Decides who may see what shows data: the page and the API.

    With a token, those who have it. A program sends it as bearer token. A browser can't, so the
    page asks for it once, and then sends a cookie that is derived from it. The cookie gives access
    only to what can be read.

    Without a token, those on the same machine, and those who ask for one of the hosts that the
    settings name. The host is checked also on the same machine: another site's name may lead there
    (DNS rebinding), and then its pages could read the answers.

    A token's file is read again when it changes; from then on, the old token opens nothing.

    Parameters
    ----------
    http
        The token and the hosts.
    """

    def __init__(self, http: HttpSettings) -> None:
        self._hosts = {host.lower() for host in http.hosts}
        self._bodies = Bodies(MAX_FORM_BYTES)
        self._throttle = _Throttle()
        self._token: bytes | None = None
        self._cookie = ""
        self._file = http.token_file
        self._watch = FileWatch(*([http.token_file] if http.token_file else []))
        if http.token is not None:
            self._use(http.token)

    def _use(self, token: SecretStr) -> None:
        self._token = token.get_secret_value().encode()
        self._cookie = hmac.new(self._token, COOKIE.encode(), hashlib.sha256).hexdigest()

    def _renew(self) -> None:
        """Use the token that its file has now."""
        if not self._watch.has_changed():
            return
        try:
            token = HttpSettings(token_file=self._file).token
        except ValidationError as error:
            reason = error.errors(include_input=False)[0]["msg"]
            logger.warning("the new http.token can't be used, the old one stays: %s", reason)
            return
        if token is not None:
            self._use(token)
            logger.info("new http.token")

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """An application that accepts only requests with the token."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            # Not the path of `request.url`: it is made with a header that the client chooses.
            if scope["type"] != "http" or not _is_protected(scope["path"]):
                await app(scope, receive, send)
                return
            self._renew()
            request = Request(scope, receive)
            refusal = self._check_place(request) if self._token is None else self._check(request)
            await (refusal or app)(scope, receive, send)

        return guarded

    def _check_place(self, request: Request) -> Response | None:
        """Why a request without a token is refused, if it is."""
        host = _name(request.headers.get("host", ""))
        # Only unix sockets have no address, and their folder says who may use them.
        if request.client is None or "*" in self._hosts or host in self._hosts:
            return None
        is_forwarded = any(name in request.headers for name in FORWARDED)
        if _is_loopback(request.client.host) and _is_here(host) and not is_forwarded:
            return None
        return refuse(
            403,
            "forbidden",
            "no http.token is set, so only this machine may ask, as localhost; set http.token, or "
            "name the host that you asked for in http.hosts",
        )

    def _check(self, request: Request) -> Response | None:
        """Why a request has to have a token, if it has none."""
        if self._has_token(request):
            return None
        headers = {"www-authenticate": "Bearer"}
        if request.scope["path"] == "/performance":
            return HTMLResponse(read_page("login.html"), 401, headers)
        return refuse(401, "unauthorized", "a bearer token is needed", headers)

    def _has_token(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(given)
        cookie = request.cookies.get(COOKIE, "").encode()
        return request.method in {"GET", "HEAD"} and hmac.compare_digest(
            cookie, self._cookie.encode()
        )

    def _is_token(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.strip().encode(), self._token)

    async def log_in(self, request: Request) -> Response:
        """Accept the token from the page's form; later requests have a cookie instead."""
        self._renew()
        peer = request.client.host if request.client else ""
        wait_s = self._throttle.wait_s(peer)
        if wait_s:
            headers = {"retry-after": str(wait_s)}
            return refuse(429, "throttled", "too many wrong tokens; try again later", headers)
        try:
            form = parse_qs((await self._bodies.read(request)).decode("utf-8", "replace"))
        except TooLarge as error:
            return refuse(413, "too-large", str(error))
        if not self._is_token(form.get("token", [""])[0]):
            self._throttle.note_wrong(peer)
            return HTMLResponse(read_page("login.html"), 401)
        response = RedirectResponse("/performance", 303)
        response.set_cookie(
            COOKIE,
            self._cookie,
            httponly=True,
            samesite="strict",
            secure=request.headers.get("x-forwarded-proto", request.scope["scheme"]) == "https",
        )
        return response


def _is_protected(path: str) -> bool:
    return path.startswith(PROTECTED) and not path.startswith(OPEN)


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    name, _, port = host.strip().lower().rpartition(":")
    return name if name and port.isdecimal() else host.strip().lower()


def _is_here(name: str) -> bool:
    """Whether a name in an address means this machine, whatever the name service says."""
    # Servers that listen everywhere print this address, and browsers take it as localhost.
    if name == "0.0.0.0":  # noqa: S104 - nothing is bound to it here
        return True
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address.strip("[]"))
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
