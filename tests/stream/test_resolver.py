"""URLs of Clusters and Sentinels, and who is asked where a primary is."""

import pytest
from pydantic import ValidationError
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.connection.resolver import ClusterResolver, SentinelResolver
from stream.redis_url import RedisUrl
from stream.settings import RedisSettings
from tests.support.redis.servers import Server, free_port

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("redis://host:1/2", RedisUrl("server", "redis://host:1/2")),
        ("unix:///somewhere", RedisUrl("server", "unix:///somewhere")),
        ("redis+cluster://a:1,b", RedisUrl("cluster", "redis://a:1/", (("a", 1), ("b", 6379)))),
        (
            "rediss+cluster://me:secret@a:1,b:2?ssl_check_hostname=no",
            RedisUrl("cluster", "rediss://me:secret@a:1/?ssl_check_hostname=no", (("a", 1), ("b", 2))),
        ),
        (
            "redis+sentinel://:secret@a,b:2/mine/3",
            RedisUrl("sentinel", "redis://:secret@a:26379/3", (("a", 26379), ("b", 2)), "mine", "redis://sentinel"),
        ),
        (
            "rediss+sentinel://me:secret@a/mine?ssl_certfile=c&sentinel_username=you&sentinel_password=%2Fp%40",
            RedisUrl(
                "sentinel",
                "rediss://me:secret@a:26379/?ssl_certfile=c",
                (("a", 26379),),
                "mine",
                "rediss://you:%2Fp%40@sentinel?ssl_certfile=c",
            ),
        ),
        (
            "rediss+sentinel://a/mine?ssl_certfile=c&sentinel_tls=no&sentinel_password=p",
            RedisUrl("sentinel", "rediss://a:26379/?ssl_certfile=c", (("a", 26379),), "mine", "redis://:p@sentinel"),
        ),
    ],
)
def test_a_url_names_one_server_or_many(url: str, parsed: RedisUrl) -> None:
    """What stands behind the hosts is as redis-py reads it for one server."""
    assert RedisUrl.parse(url) == parsed


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://a:b",
        "redis+sentinel://a:1",
        "redis+sentinel://a:1/mine?sentinel_pasword=secret",
        "redis+sentinel://a:1/mine?sentinel_tls=maybe",
        "redis+sentinel://:secret/secret@a:1/mine",
        "unix+cluster://a:1",
        "redis+moon://a:1",
        "127.0.0.1:6390",
        "user:secret@a:1",
        "http://a",
        "redis://a:b/0",
        "redis://:secret/x@a:1/0",
        "redis://a:99999",
        "redis+cluster://a:99999",
        "redis://a/x",
        "redis+cluster://a/x",
        "redis+sentinel://a/mine/x",
        "redis://[::1",
        "unix://",
        "redis://a?db=x",
        "redis://a?secret=1",
        "redis://a?socket_timeout=3",
        "redis://a?ssl_certfile=c",
        "rediss://a?ssl_cert_reqs=secret",
    ],
)
def test_a_url_that_cannot_be_read_ends_the_process(url: str) -> None:
    """As any wrong setting; what is said of it shows no piece of a password."""
    with pytest.raises(ValidationError, match="redis_url") as refused:
        RedisSettings(redis_url=url)
    assert all("secret" not in problem["msg"] for problem in refused.value.errors())


async def test_where_nobody_answers_nothing_is_found() -> None:
    """It counts as a lost connection."""
    unreachable = (("127.0.0.1", free_port()),)
    for find in (ClusterResolver(unreachable, 0, {}).resolve, SentinelResolver(unreachable, "mine", {}).resolve):
        with pytest.raises(RedisConnectionError):
            await find()


async def test_why_no_node_says_where_a_slot_is_is_reported(server: Server) -> None:
    """A password that is wrong, or a server that is no Cluster, would else look as if it were away."""
    find = ClusterResolver((("127.0.0.1", server.port),), 0, {}).resolve
    with pytest.raises(RedisConnectionError, match="cluster support disabled"):
        await find()
