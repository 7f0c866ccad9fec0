"""Guardian process of one server: when its standard input closes, for whatever reason, it ends the server.

It is run as a script with a LaunchSpec in JSON, and prints the server's process id. Its parent may be killed without a
chance to clean up, and only on Linux can a process ask to die with its parent.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import types
import typing

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class LaunchSpec(typing.TypedDict):
    """The command, its user, how to stop it, and a folder to remove if the parent is gone and cannot."""

    command: list[str]
    stop_signal: int
    grace_seconds: float
    uid: int | None
    gid: int | None
    removed_folder: str | None


def main() -> None:
    spec: LaunchSpec = json.loads(sys.argv[1])
    # With handlers the server does not inherit ignored signals. Each signal writes a byte to `woken`.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in ENDING:
        signal.signal(number, leave)
    server = launch(spec)
    orphaned = False
    try:
        print(server.pid, flush=True)
        orphaned = watch(server, woken)
    finally:
        end(server, spec)
        if (orphaned or is_alone()) and spec["removed_folder"]:
            shutil.rmtree(spec["removed_folder"], ignore_errors=True)


def leave(_number: int, _frame: types.FrameType | None) -> typing.NoReturn:
    """Exit on the first signal; a session that ends sends more, which must not interrupt stopping the server."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit()


def launch(spec: LaunchSpec) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - a fixed command
        spec["command"],
        user=spec["uid"],
        group=spec["gid"],
        extra_groups=None if spec["uid"] is None else (),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )


def watch(server: subprocess.Popen[bytes], woken: int) -> bool:
    """Wait until the server dies or standard input says to stop; return True if the parent is gone."""
    while server.poll() is None:
        readable, _, _ = select.select([sys.stdin, woken], [], [])
        if sys.stdin in readable:
            return not sys.stdin.readline()
        os.read(woken, 64)  # then check again: SIGCHLD also comes when the server is paused or continued
    return False


def is_alone() -> bool:
    """Say whether the parent has died since it asked to stop."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable) and not sys.stdin.readline()


def end(server: subprocess.Popen[bytes], spec: LaunchSpec) -> None:
    server.send_signal(spec["stop_signal"])
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(spec["grace_seconds"])
    server.kill()
    server.wait()


if __name__ == "__main__":
    main()
