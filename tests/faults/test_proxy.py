"""The proxy causes exactly the fault that it is asked for, and otherwise passes everything."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from goalworker.embedded import machine
from tests.faults import proxy

SECONDS = 0.3


@pytest.fixture
def wire() -> Iterator[proxy.Proxy]:
    """Proxy in front of an echo server."""
    with socket.create_server((machine.LOOPBACK, 0)) as server:
        thread = threading.Thread(target=_echo, args=(server,))
        thread.start()
        with proxy.running(server.getsockname()[1]) as wire:
            yield wire
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _echo(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_say_back, args=(connection,)).start()


def _say_back(connection: socket.socket) -> None:
    with connection:
        try:
            while piece := connection.recv(1024):
                connection.sendall(piece)
        except ConnectionError:
            pass


def connect(wire: proxy.Proxy) -> socket.socket:
    return socket.create_connection((machine.LOOPBACK, wire.port), timeout=SECONDS)


def ask(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    return connection.recv(1024)


@pytest.mark.smoke
def test_bytes_are_passed_in_both_directions(wire: proxy.Proxy) -> None:
    with connect(wire) as connection:
        assert ask(connection, b"hello") == b"hello"


def test_a_black_hole_keeps_connections_and_passes_nothing_until_healed(wire: proxy.Proxy) -> None:
    with connect(wire) as before:
        assert ask(before, b"1") == b"1"
        wire.black_hole()
        with connect(wire) as during:
            for connection in (before, during):
                with pytest.raises(TimeoutError):
                    ask(connection, b"2")
            wire.heal()
            assert (before.recv(1024), during.recv(1024)) == (b"2", b"2")


def test_a_cut_ends_connections_and_new_ones_work(wire: proxy.Proxy) -> None:
    with connect(wire) as connection:
        assert ask(connection, b"1") == b"1"
        wire.cut()
        assert connection.recv(1024) == b""
    with connect(wire) as connection:
        assert ask(connection, b"2") == b"2"


def test_a_reset_ends_connections_with_rst(wire: proxy.Proxy) -> None:
    with connect(wire) as connection:
        assert ask(connection, b"1") == b"1"
        wire.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1024)


def test_a_delay_holds_bytes_back(wire: proxy.Proxy) -> None:
    wire.delay_seconds = SECONDS / 4
    with connect(wire) as connection:
        asked = time.monotonic()
        assert ask(connection, b"1") == b"1"
        assert time.monotonic() - asked >= SECONDS / 2


def test_only_the_chosen_reply_is_lost_as_often_as_asked(wire: proxy.Proxy) -> None:
    wire.lose_reply(b"COMMIT", after=b"INSERT")
    with connect(wire) as connection:
        assert ask(connection, b"COMMIT") == b"COMMIT"
        assert ask(connection, b"INSERT") == b"INSERT"
        assert ask(connection, b"COMMIT") == b""
    with connect(wire) as connection:
        assert ask(connection, b"INSERT") == b"INSERT"
        assert ask(connection, b"COMMIT") == b"COMMIT"
    assert wire.replies_lost == 1


def test_connections_end_while_the_server_is_away() -> None:
    with proxy.running(machine.free_port()) as wire, connect(wire) as connection:
        assert connection.recv(1024) == b""
