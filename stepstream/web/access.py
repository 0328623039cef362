"""Who may see the page and use the API, if a token is set."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from stepstream.web.answers import read_page, refuse
from stepstream.web.bodies import TooLarge, read_body

if TYPE_CHECKING:
    from pydantic import SecretStr
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Access"]

PROTECTED = ("/v1/", "/performance/", "/performance")
OPEN = ("/performance/static/", "/performance/login")
COOKIE = "stepstream-page"
MAX_FORM_BYTES = 4 << 10


class Access:
    """Checks the token of requests.

    A program sends it as bearer token. A browser can't, so the page asks for it once, and then
    sends a cookie that is derived from it. The cookie gives access only to what can be read.

    Parameters
    ----------
    token
        The token; without one, everything is open.
    """

    def __init__(self, token: SecretStr | None) -> None:
        self._token = None if token is None else token.get_secret_value().encode()
        self._cookie = ""
        if self._token is not None:
            self._cookie = hmac.new(self._token, COOKIE.encode(), hashlib.sha256).hexdigest()

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """An application that accepts only requests with the token."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            if scope["type"] == "http" and not self._may(request):
                await self._refuse(request)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return guarded

    def _may(self, request: Request) -> bool:
        # Not the path of `request.url`: it is made with a header that the client chooses.
        path: str = request.scope["path"]
        if self._token is None or path.startswith(OPEN) or not path.startswith(PROTECTED):
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode(), self._token)
        cookie = request.cookies.get(COOKIE, "")
        return request.method == "GET" and hmac.compare_digest(
            cookie.encode(), self._cookie.encode()
        )

    @staticmethod
    def _refuse(request: Request) -> Response:
        headers = {"www-authenticate": "Bearer"}
        if request.scope["path"] == "/performance":
            return HTMLResponse(read_page("login.html"), 401, headers)
        return refuse(401, "unauthorized", "a bearer token is needed", headers)

    async def log_in(self, request: Request) -> Response:
        """Accept the token from the page's form; later requests have a cookie instead."""
        try:
            form = parse_qs((await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace"))
        except TooLarge as error:
            return refuse(413, "too-large", str(error))
        given = form.get("token", [""])[0].strip()
        if self._token is None or not hmac.compare_digest(given.encode(), self._token):
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
