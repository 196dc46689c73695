"""`sluice release` as an operator types it: what it writes, and what it refuses."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from sluice.release import main
from stream.keys import RELEASES, Partition, release_figures
from stream.model import ModelDescription, Resize
from stream.presence import Presence
from stream.releases import Release, ReleaseCounts, Releases
from tests.stream.test_group import report
from tests.support.redis.servers import Server

pytestmark = pytest.mark.anyio

Command = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
async def command(
    server: Server, client: Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command: its status, and what it printed. Versions 1 and 2 of `flowers` are served, 3 is announced."""
    monkeypatch.setenv("SLUICE_REDIS_URL", server.url)
    presence = Presence(client, Partition("flowers"))
    for version in "123":
        await presence.announce(ModelDescription("flowers", version, f"digest {version}", 4, 4, Resize(), ("a", "b")))
    for version in "12":
        await presence.heartbeat(replace(report(f"of-{version}"), version=version), lease_s=600)

    async def run(line: str) -> tuple[int, str]:
        try:
            status = await asyncio.to_thread(main, line.split())
        except SystemExit as ended:
            status = int(ended.code or 0)
        return status, "".join(capsys.readouterr())

    return run


async def test_a_candidate_takes_a_share_and_is_promoted(command: Command, client: Redis) -> None:
    """Each command prints the state that it leaves."""
    assert await command("set flowers 2 --share 5%") == (
        0, "flowers: version 2 takes 5 % of the requests, version 1 takes all others\n",
    )  # fmt: skip
    trial = await Releases(client).of("flowers")
    assert trial
    assert (trial.stable, trial.candidate, trial.share, trial.shadow) == ("1", "2", 0.05, False)
    assert await command("promote flowers") == (0, "flowers: version 2 takes all images\n")
    assert await command("rollback flowers") == (0, "flowers: version 1 takes all images\n")
    status, said = await command("rollback flowers")
    assert status == 2
    assert "there is nothing to roll back: version 1 takes everything" in said
    assert await command("clear flowers") == (0, "flowers: no release: any version takes an image\n")
    assert await client.hlen(RELEASES) == 0
    assert await command("show") == (0, "No model has a release.\n")


async def test_help_shows_how_a_share_is_written(command: Command) -> None:
    """With one percent sign. What the commands `promote` and `rollback` do is not listed twice."""
    status, said = await command("set --help")
    assert (status, "%%" in said, "5% or 0.05" in said) == (0, False, True)
    assert "--promote" not in said


async def test_what_ends_a_trial_is_an_option_of_set_as_well(command: Command, client: Redis) -> None:
    """`--shadow`, `--promote` and `--rollback` after the version."""
    assert "version 2 is the shadow" in (await command("set flowers 2 --shadow"))[1]
    assert "version 1 takes all images" in (await command("set flowers 2 --rollback"))[1]
    assert "version 2 takes all images" in (await command("set flowers 2 --promote"))[1]
    assert "version 1 takes all images" in (await command("set flowers 2 --rollback"))[1]
    assert "version 2 takes 50 % of" in (await command("set flowers 2 --share 0.5"))[1]
    assert "version 2 takes all images" in (await command("set flowers 2 --promote"))[1]


async def test_a_command_typed_again_changes_nothing(command: Command, client: Redis) -> None:
    """After a second promotion there is still a version to roll back to."""
    assert "version 1 takes all images" in (await command("promote flowers 1"))[1]
    await command("set flowers 2 --share 5%")
    for _ in range(2):
        assert "version 2 takes all images" in (await command("set flowers 2 --promote"))[1]
    assert "version 1 takes all images" in (await command("set flowers 2 --rollback"))[1]


async def test_a_trial_changes_no_stable_version_by_mistake(command: Command, client: Redis) -> None:
    """Nor does the end of a trial that there is not."""
    await command("set flowers 2 --share 5%")
    for line, reason in (
        ("set flowers 1 --share 5%", "version 1 cannot be stable and candidate at once; name the stable one with"),
        ("set flowers 1 --rollback", "version 1 of flowers is not the one on trial, nor the last one promoted"),
    ):
        status, said = await command(line)
        assert (status, reason in said) == (2, True), said
    trial = await Releases(client).of("flowers")
    assert trial
    assert (trial.stable, trial.candidate) == ("1", "2")
    assert "version 1 takes 5 %" in (await command("set flowers 1 --share 5% --stable 2"))[1]


async def test_figures_under_a_key_of_another_type_hide_no_release(command: Command, client: Redis) -> None:
    """Only the figures are missing."""
    await command("set flowers 2 --share 5%")
    trial = await Releases(client).of("flowers")
    assert trial
    await client.set(release_figures("flowers", trial.id), "no hash", px=60_000)
    assert await command("show flowers") == (
        0, "flowers: version 2 takes 5 % of the requests, version 1 takes all others\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ("set nothing 2 --share 5%", 1, "no consumer has announced the model 'nothing'"),
        ("set flowers 7 --share 5%", 2, "no consumer has announced version 7; announced: 1, 2, 3"),
        ("set flowers 7 --share 5% --force", 2, "no consumer has announced version 7"),
        ("set flowers 3 --share 5%", 2, "no live consumer serves version 3; served at present: 1, 2. Start one with"),
        (
            "set flowers 3 --share 5%",
            2,
            " -m consumers --model flowers --version 3 (with the consumers'",
        ),
        ("set flowers 2 --share 5% --stable 3", 2, "no live consumer serves version 3"),
        ("set flowers 2 --share 5% --stable 2", 2, "version 2 cannot be stable and candidate at once"),
        ("set flowers 3 --share 5% --force", 2, "several other versions are served (1, 2): name the stable one"),
        ("set flowers two --share 5%", 2, "'two' is no version"),
        ("set flowers 2 --share 5", 2, "'5' is no share; write 5% or 0.05"),
        ("set flowers 2 --share 0%", 2, "'0%' is out of range"),
        ("set flowers 2 --share 101%", 2, "'101%' is out of range"),
        ("set flowers 2 --share -5%", 2, "expected one argument"),
        ("set flowers 2", 2, "one of the arguments --share --shadow is required"),
        ("set flowers 2 --share 5% --shadow", 2, "not allowed with argument"),
        ("promote flowers", 2, "flowers has no release"),
        ("set flowers 2 --rollback", 2, "flowers has no release"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    command: Command, client: Redis, line: str, status: int, reason: str
) -> None:
    """With a sentence that says what to do; nothing is written."""
    found, said = await command(line)
    assert found == status, said
    assert reason in said
    assert await client.hlen(RELEASES) == 0


async def test_a_version_without_a_consumer_needs_force(command: Command) -> None:
    """The state says that it has none."""
    status, said = await command("set flowers 3 --share 5% --stable 1 --force")
    assert status == 0
    assert "! The release names version 3, and no consumer of it is alive." in said


async def test_a_rollback_needs_a_consumer_that_has_or_loads_the_version(command: Command, client: Redis) -> None:
    """One with --watch loads it, and is no reason to warn. Otherwise the refusal says how to start one."""
    await command("promote flowers 1")
    await command("promote flowers 2")
    presence = Presence(client, Partition("flowers"))
    await presence.leave("of-1")
    status, said = await command("rollback flowers")
    assert status == 2
    assert "or start the service with: sluice serve flowers --version 1, or add --force" in said
    await presence.heartbeat(replace(report("of-2"), version="2", follows=True), lease_s=600)
    loads = "Consumers with --watch load version 1 within seconds if their models folder has it.\n"
    assert await command("rollback flowers") == (0, f"flowers: version 1 takes all images\n{loads}")


async def test_a_shadow_must_resize_as_the_stable_version(command: Command, client: Redis) -> None:
    """It gets the images that were prepared for the other: what was compared would be no one's answer."""
    cropped = ModelDescription("flowers", "2", "digest", 4, 4, Resize("crop", shorter_side=5), ("a", "b"))
    await Presence(client, Partition("flowers")).announce(cropped)
    status, said = await command("set flowers 2 --shadow")
    assert status == 2
    assert "take images prepared differently" in said
    assert (await command("set flowers 2 --share 5%"))[0] == 0


async def test_figures_of_all_ingests_add_up(command: Command, client: Redis) -> None:
    """Counts are summed, the largest difference is the largest of all; they begin again with the next trial."""
    releases = Releases(client)
    release = Release("1", "2", shadow=True)
    await releases.write("flowers", release)
    counts = ReleaseCounts(largest=0.25)
    counts.sent("1")
    for name, count in (("compared", 4), ("agreed", 3), ("seconds", 0.5)):
        counts.add(name, count)
    await releases.add("flowers", release, counts)
    await releases.add("flowers", release, replace(counts, largest=0.125))
    status, said = await command("show flowers")
    assert status == 0
    assert "so far 2 requests to version 1" in said
    assert "both agree on 75.00% of 8 images, largest difference 0.25, mean time 0.125 s" in said
    (shown,) = json.loads((await command("show --json"))[1]).values()
    assert (shown["agreement"], shown["compared"], shown["sent"]) == (0.75, 8, {"1": 2})
    _, said = await command("set flowers 2 --shadow")
    assert "agree" not in said


async def test_a_release_that_cannot_be_read_is_skipped(client: Redis) -> None:
    """Whatever another program wrote under the key."""
    release = Release("1", "2", share=0.5)
    await Releases(client).write("flowers", release)
    for raw in (b"", b"[]", b"{}", b'{"stable": 1}', b'{"stable":"1","share":2,"candidate":"2"}', b"\xff"):
        await client.hset(RELEASES, "other", raw)
        assert await Releases(client).all() == {"flowers": release}
