"""A small Falcon application for the tests of the HTTP worker."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import falcon.asgi


class Pid:
    """Tells which worker answers, after `?seconds=`."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        seconds = req.get_param_as_float("seconds")
        if seconds is not None:
            await asyncio.sleep(seconds)
        resp.text = str(os.getpid())

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.data = await req.stream.read()


class Life:
    """Writes the starts and stops of the worker to the file that APP_LOG names."""

    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        if os.environ.get("APP_FAILS"):
            raise RuntimeError("told to fail")
        self._note("start")

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        self._note("stop")

    def _note(self, word: str) -> None:
        if "APP_LOG" in os.environ:
            with Path(os.environ["APP_LOG"]).open("a") as log:
                log.write(f"{word}\n")


app = falcon.asgi.App(middleware=[Life()])
app.add_route("/pid", Pid())
