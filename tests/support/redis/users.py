"""Clients and processes under the Redis users that `python -m stream.acl` makes; `users` is the folder it wrote."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis
from redis.asyncio import Redis as AsyncRedis

from stream import acl
from stream.connection.clients import connect
from stream.settings import RedisSettings
from tests.support.processes import Process, Processes
from tests.support.redis.servers import Server


def make_users(users: Path, *options: str) -> int:
    """Run the command for the kind of server that this suite tests; returns its exit status."""
    old = ["--redis-7-0"] if os.environ.get("SLUICE_TEST_SERVER") == "redis7" else []
    return acl.main([str(users), *options, *old])


def password(users: Path, user: str) -> str:
    return (users / user / "password").read_text()


class UnderUsers(Processes):
    """Each process in its own name, or in that of `user`."""

    def __init__(self, folder: Path, *, users: Path, server: Server, models_dir: Path) -> None:
        super().__init__(folder, redis_url="", models_dir=models_dir)
        self._users = users
        self._port = server.port

    def start(self, module: str, *, rogue: str = "", arguments: Sequence[str] = (), **settings: Any) -> Process:
        user = settings.pop("user", {"ingest": "ingest", "ingest.webhooks": "webhooks"}.get(module, "consumer"))
        url, file = f"redis://{user}@127.0.0.1:{self._port}/0", self._users / user / "password"
        access = {"redis_url": url, "redis_password_file": file}
        return super().start(module, rogue=rogue, arguments=arguments, **access, **settings)


def as_user(users: Path, server: Server, name: str) -> redis.Redis:
    return redis.Redis(port=server.port, username=name, password=password(users, name))


@asynccontextmanager
async def under(users: Path, server: Server, name: str) -> AsyncIterator[AsyncRedis]:
    async with connect(settings_of(users, server, name)) as client:
        yield client


def settings_of(users: Path, server: Server, name: str) -> RedisSettings:
    url, file = f"redis://{name}@127.0.0.1:{server.port}/0", users / name / "password"
    return RedisSettings(redis_url=url, redis_password_file=str(file))
