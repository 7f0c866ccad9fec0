"""Listening sockets of the API and the operations port."""

import socket

from goalworker.runtime import http_server


def test_no_answer_waits_for_its_first_part_to_be_acknowledged() -> None:
    address = http_server.Address("127.0.0.1", 0, "A test's server", "TEST")
    with http_server._listen(address) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
