"""Holds one server on a leash, which is its standard input: when that ends, for whatever reason, so does the server.

Run as a script of its own, with an order in JSON; it prints the server's process id. Whoever asked for the server may
be killed without a chance to clean up, and on no system but Linux can a process ask to die with its parent.
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


class Order(typing.TypedDict):
    """What to run, as whom, how to end it, and the folder to remove if nobody is left who could."""

    command: list[str]
    stop_signal: int
    grace_seconds: float
    uid: int | None
    gid: int | None
    throwaway: str | None


def main() -> None:
    order: Order = json.loads(sys.argv[1])
    # The handlers also keep the signals from being ignored in the server; a byte on `woken` says that one came.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in ENDING:
        signal.signal(number, leave)
    server = launch(order)
    orphaned = False
    try:
        print(server.pid, flush=True)
        orphaned = watch(server, woken)
    finally:
        end(server, order)
        if (orphaned or is_alone()) and order["throwaway"]:
            shutil.rmtree(order["throwaway"], ignore_errors=True)


def leave(_number: int, _frame: types.FrameType | None) -> typing.NoReturn:
    """Leave once: a session ends with several signals, and the later ones must not interrupt ending the server."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit()


def launch(order: Order) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the command is ours
        order["command"],
        user=order["uid"],
        group=order["gid"],
        extra_groups=None if order["uid"] is None else (),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )


def watch(server: subprocess.Popen[bytes], woken: int) -> bool:
    """Wait for the server's death or the end of the leash; true if nobody is there any more who could tidy up."""
    while server.poll() is None:
        readable, _, _ = select.select([sys.stdin, woken], [], [])
        if sys.stdin in readable:
            return not sys.stdin.readline()
        os.read(woken, 64)  # and look again: SIGCHLD also comes when the server is paused or continued
    return False


def is_alone() -> bool:
    """Say whether whoever asked us to stop has died since."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable) and not sys.stdin.readline()


def end(server: subprocess.Popen[bytes], order: Order) -> None:
    server.send_signal(order["stop_signal"])
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(order["grace_seconds"])
    server.kill()
    server.wait()


if __name__ == "__main__":
    main()
