"""A route that stores nothing, as Starlette and uvicorn come: what hooks are measured against."""

from __future__ import annotations

import asyncio

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.cli.servers import listening


async def _take(request: Request) -> Response:
    await request.body()
    return Response()


async def main() -> None:
    """Print the origin, then serve until the process is ended."""
    sock = listening("127.0.0.1", 0)
    print(f"http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    app = Starlette(routes=[Route("/{path:path}", _take, methods=["POST"])])
    await uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).serve([sock])


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
