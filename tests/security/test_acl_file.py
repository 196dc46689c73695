"""The file of Redis users: what is written in it, and what a server keeps that runs with it."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import redis

from stream import acl
from tests.support.redis.requests_direct import TINY, assert_right, outcomes, random_images, send
from tests.support.redis.servers import Server
from tests.support.redis.users import UnderUsers, as_user, make_users, password, under

pytestmark = pytest.mark.anyio


def test_without_a_model_s_name_a_consumer_may_serve_any() -> None:
    """And of that model alone where it is named."""
    everything, one = acl.consumer_rights(), acl.consumer_rights("tiny")
    assert len(everything) == len(one)
    common = ("sluice:{*/*}:", *(f"sluice:{{all}}:{key}" for key in ("models", "loads", "releases", "gpu:*")))
    keyed = [right for right in everything if right.read or right.write or right.both]
    assert all(any(keys in right.encode() for keys in common) for right in keyed)
    assert not [right for right in one if "{*/" in right.encode()]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    (tmp_path / "file").touch()
    assert acl.main([str(tmp_path / "file" / "users")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"python -m stream.acl: {tmp_path}/file")
    assert error.endswith(": Not a directory\n")


def _has_a_redis_of_the_system() -> bool:
    programs = ("redis-server", "setpriv", "install")
    return os.geteuid() == 0 and all(map(shutil.which, programs)) and "redis:" in Path("/etc/passwd").read_text()


@pytest.mark.skipif(not _has_a_redis_of_the_system(), reason="needs root, and Debian's package redis-server")
def test_a_redis_of_the_system_reads_the_installed_file() -> None:
    """The folder of the users is closed to it, and the copy that docs/security.md installs is not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        # Redis 7.0 knows no other users, and newer ones know these.
        assert acl.main([str(folder / "users"), "--redis-7-0"]) == 0
        copy = f"install --owner redis --group redis --mode 0400 {folder}/users/redis/users.acl {folder}/users.acl"
        subprocess.run(copy.split(), check=True)
        server = Server(folder, kind="redis7", options={"aclfile": f"{folder}/users.acl"}, system_user="redis")
        server.url = server.url.replace("//", f"//ingest:{password(folder / 'users', 'ingest')}@")
        server.start()
        server.kill()


async def test_a_server_with_these_users_keeps_what_it_accepted(models_dir: Path, tmp_path: Path) -> None:
    """It runs its append-only file as the default user, and would drop each transaction that this user may not run."""
    users = tmp_path / "users"
    assert make_users(users) == 0
    durable = {"aclfile": str(users / "redis" / "users.acl"), "appendonly": "yes", "appendfsync": "always"}
    (tmp_path / "data").mkdir()
    server = Server(tmp_path / "data", options=durable)
    server.url = server.url.replace("//", f"//admin:{password(users, 'admin')}@")
    server.start()
    images = random_images(6)
    try:
        with UnderUsers(tmp_path, users=users, server=server, models_dir=models_dir) as processes:
            consumer = processes.consumer(version=1).ready()
            async with under(users, server, "ingest") as ingest:
                answered = await send(ingest, images[:3])
                await outcomes(ingest, answered)
                consumer.kill()
                queued = await send(ingest, images[3:])
            server.kill()
            server.start()
            processes.consumer(version=1).ready()
            async with under(users, server, "ingest") as ingest:
                for outcome, image in zip(await outcomes(ingest, answered + queued), images, strict=True):
                    assert_right(outcome, image)
    finally:
        server.kill()


def test_another_password_can_be_brought_in_without_a_pause(tmp_path: Path) -> None:
    """By the steps of docs/security.md: both passwords are good until the file of users is read again."""
    users, installed = tmp_path / "users", tmp_path / "users.acl"
    assert make_users(users) == 0
    shutil.copy(users / "redis" / "users.acl", installed)
    server = Server(tmp_path, options={"aclfile": str(installed)})
    server.start()
    try:
        old = password(users, "ingest")
        (users / "ingest" / "password").unlink()
        assert make_users(users) == 0
        new = password(users, "ingest")
        with as_user(users, server, "admin") as admin:
            assert accepted(server, old, new) == [True, False]
            admin.execute_command("ACL", "SETUSER", "ingest", f"#{hashlib.sha256(new.encode()).hexdigest()}")
            assert accepted(server, old, new) == [True, True]
            shutil.copy(users / "redis" / "users.acl", installed)
            admin.execute_command("ACL", "LOAD")
        assert accepted(server, old, new) == [False, True]
    finally:
        server.kill()


def accepted(server: Server, *passwords: str) -> list[bool]:
    """Whether `ingest` may log in with each of these passwords."""
    found = []
    for one in passwords:
        with redis.Redis(port=server.port, username="ingest", password=one) as client:
            try:
                found.append(bool(client.ping()))
            except redis.AuthenticationError:
                found.append(False)
    return found


def test_users_are_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run changes nothing, and says so if it should; each has its own passwords, none is in Redis's file."""
    users, again = tmp_path / "users", tmp_path / "again"
    assert make_users(users, "--model", TINY.model, "--scaler") == 0
    before = {path: path.read_text() for path in users.rglob("*") if path.is_file()}
    assert make_users(users, "--model", TINY.model) == 0
    for other in (["--model", "other"], []):
        assert make_users(users, *other) == 1
        assert "or remove this file to change them: the passwords stay" in capsys.readouterr().err
    assert {path: path.read_text() for path in users.rglob("*") if path.is_file()} == before
    acl.main([str(again)])
    assert not {password(again, name) for name in ("ingest", "consumer", "admin")} & set(before.values())
    assert not [
        name
        for name in ("ingest", "consumer", "admin")
        if password(users, name) in before[users / "redis" / "users.acl"]
    ]
    (users / "redis" / "users.acl").unlink()
    assert make_users(users, "--model", "other") == 0
    changed = [path for path, text in before.items() if path.read_text() != text]
    assert changed == [users / "redis" / "users.acl"]


def test_a_later_version_renews_the_rights_and_keeps_the_passwords(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new user gets a password, and those of the others stay."""
    users = tmp_path / "users"
    assert make_users(users) == 0
    file = users / "redis" / "users.acl"
    made = file.read_text()
    passwords = {path: path.read_text() for path in users.glob("*/password")}
    (old_right,) = [word for word in made.split() if word == "+hincrbyfloat"]
    file.chmod(0o600)
    file.write_text(made.replace(old_right, "+hincrby"))
    assert make_users(users) == 0
    assert "rights of this version" in capsys.readouterr().out
    assert file.read_text() == made
    assert make_users(users, "--scaler") == 0
    assert passwords.items() < {path: path.read_text() for path in users.glob("*/password")}.items()
    assert file.read_text().startswith(made)
    capsys.readouterr()
    (users / "ingest" / "password").unlink()
    assert make_users(users) == 0
    assert capsys.readouterr().out.endswith(
        ", and there are new passwords of ingest. Install it, run ACL LOAD, then restart the processes of: ingest\n"
    )
    changed = {path.parent.name for path, before in passwords.items() if path.read_text() != before}
    assert changed == {"ingest"}


def test_no_other_user_of_the_machine_reads_a_password(tmp_path: Path) -> None:
    """A folder that is new belongs to its maker alone. One that exists keeps its permissions."""
    assert acl.main([str(tmp_path / "new")]) == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir(mode=0o750)
    assert acl.main([str(tmp_path / "shared")]) == 0
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o750
