"""Headers that tell browsers to do nothing with an answer but read it. ASGI, knows no endpoint."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What every answer says, unless its endpoint says otherwise. An answer is data: it is no page, runs nothing, is
#: shown in no frame, and is nobody else's to keep.
PROTECTIVE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

_RAW = [(name.lower().encode(), value.encode()) for name, value in PROTECTIVE.items()]


class Protective:
    """Adds the protective headers that an answer has not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = message.setdefault("headers", [])
                set_already = {name for name, _ in own}
                message["headers"] = [*own, *(pair for pair in _RAW if pair[0] not in set_already)]
            await send(message)

        await self._app(scope, receive, sending)
