"""A connection returns the same bytes and errors with our protocol as with asyncio's stream."""

import asyncio
import weakref
from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Any

import pytest
from aiokafka import conn
from hypothesis import given
from hypothesis import strategies as st

from goalworker.kafka.fast_fetch import buffered_protocol
from tests.kit.collector import no_collector

# Around the size from which responses get their own buffer, and far below.
SIZES = st.one_of(st.integers(1, 300), st.integers(60_000, 70_000), st.integers(120_000, 400_000))


# Its name in the module stands for ours once that is installed.
STOCK = conn.AIOKafkaProtocol
# Behaviour that aiokafka relies on.
BOTH = pytest.mark.parametrize("kind", [buffered_protocol.ReadAheadProtocol, STOCK], ids=["fast", "stock"])


async def connected(kind: Any = buffered_protocol.ReadAheadProtocol) -> tuple[Any, asyncio.StreamReader]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    return kind(loop.create_future(), reader, loop=loop), reader


async def come(protocol: Any, pieces: Iterable[bytes]) -> None:
    """Take in pieces as a transport does, each in as many goes as there is room for."""
    for piece in pieces:
        take(protocol, piece)
        await asyncio.sleep(0)


def take(protocol: Any, piece: bytes) -> None:
    if type(protocol) is STOCK:
        protocol.data_received(piece)
        return
    left = memoryview(piece)
    while left:
        room = protocol.get_buffer(-1)
        assert room
        count = min(len(room), len(left))
        room[:count] = left[:count]
        protocol.buffer_updated(count)
        left = left[count:]


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise(accumulate(sizes, initial=0))]


@pytest.mark.usefixtures("fast_fetching")
def test_aiokafka_connects_with_this_protocol_once_it_is_installed() -> None:
    assert conn.AIOKafkaConnection.connect.__globals__["AIOKafkaProtocol"] is buffered_protocol.ReadAheadProtocol


@BOTH
@given(counts=st.lists(SIZES, min_size=1, max_size=6), pieces=st.lists(SIZES, max_size=12))
def test_reads_give_what_came_in_order_however_it_was_cut(kind: Any, counts: list[int], pieces: list[int]) -> None:
    async def read_all() -> list[bytes]:
        protocol, reader = await connected(kind)
        coming = asyncio.create_task(come(protocol, cut(data, [*pieces, sum(counts)])))
        found = [bytes(await reader.readexactly(count)) for count in counts]
        await coming
        return found

    data = b"".join(number.to_bytes(4, "big") for number in range(sum(counts) // 4 + 1))[: sum(counts)]
    assert asyncio.run(read_all()) == cut(data, counts)


@pytest.mark.usefixtures("fast_fetching")
def test_reads_give_what_came_once_the_protocol_is_installed() -> None:
    async def read() -> bytes:
        protocol, reader = await connected()
        await come(protocol, [b"abc"])
        async with asyncio.timeout(10):
            return bytes(await reader.readexactly(3))

    assert asyncio.run(read()) == b"abc"


def test_a_large_answer_is_written_to_one_place_again_and_again() -> None:
    async def places() -> list[Any]:
        protocol, reader = await connected()
        found = []
        for size in (200_000, 100_000, 200_000):
            coming = asyncio.create_task(come(protocol, [bytes(size)]))
            view: Any = await reader.readexactly(size)
            found.append(view.obj)
            await coming
        return found

    first, second, third = asyncio.run(places())
    assert first is second is third


@BOTH
@pytest.mark.parametrize("count", [10, 100_000])
def test_the_end_of_the_connection_ends_a_read(kind: Any, count: int) -> None:
    async def read() -> None:
        protocol, reader = await connected(kind)
        await come(protocol, [b"abc"])
        asyncio.get_running_loop().call_soon(protocol.eof_received)
        await reader.readexactly(count)

    with pytest.raises(asyncio.IncompleteReadError):
        asyncio.run(read())


@BOTH
@pytest.mark.parametrize("count", [10, 100_000])
def test_an_error_of_the_connection_is_raised_to_who_reads(kind: Any, count: int) -> None:
    async def read() -> None:
        protocol, reader = await connected(kind)
        asyncio.get_running_loop().call_soon(protocol.connection_lost, ConnectionResetError("gone"))
        await reader.readexactly(count)

    with pytest.raises(ConnectionResetError, match="gone"):
        asyncio.run(read())


@BOTH
def test_a_negative_size_is_refused_as_the_stream_refuses_it(kind: Any) -> None:
    async def read() -> None:
        protocol, reader = await connected(kind)
        await come(protocol, [b"abcdefghij"])
        await reader.readexactly(-5)

    with pytest.raises(ValueError, match=r"-5|less than zero"):
        asyncio.run(read())


@BOTH
@pytest.mark.parametrize("count", [10, 100_000])
def test_a_connection_is_not_over_before_what_came_was_read(kind: Any, count: int) -> None:
    async def read() -> list[bool]:
        protocol, reader = await connected(kind)
        reading = asyncio.create_task(reader.readexactly(count))
        over = [reader.at_eof()]
        await come(protocol, [b"1"])
        take(protocol, bytes(count - 1))
        protocol.eof_received()
        over.append(reader.at_eof())
        await reading
        return [*over, reader.at_eof()]

    assert asyncio.run(read()) == [False, False, True]


def test_a_size_that_no_broker_sends_takes_no_memory_before_it_comes() -> None:
    async def read() -> int:
        protocol, reader = await connected()
        reading = asyncio.create_task(reader.readexactly(0x48545450))  # an HTTP server's first four bytes
        await come(protocol, [b"/1.1 400 Bad Request"])
        reading.cancel()
        return len(protocol.get_buffer(-1))

    assert asyncio.run(read()) <= 64 * 1024


def test_a_connection_that_is_forgotten_goes_at_once() -> None:
    async def forget() -> tuple[object, object]:
        protocol, reader = await connected()
        kept = weakref.ref(protocol), weakref.ref(reader)
        del protocol, reader
        return kept[0](), kept[1]()

    with no_collector():
        assert asyncio.run(forget()) == (None, None)


def test_a_connection_that_broke_is_collected_though_its_error_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose() -> list[object]:
        protocol, reader = await connected()
        kept, error = weakref.ref(protocol), ConnectionResetError("gone")
        coming = asyncio.create_task(come(protocol, [bytes(100_000)]))
        await reader.readexactly(100_000)
        await coming
        protocol.connection_lost(error)
        error.args = (error, protocol)
        del protocol, reader, error, coming
        collected = asyncio.Event()
        asyncio.get_running_loop().call_later(0, collected.set)  # after the callbacks that are due before
        await collected.wait()
        return [kept()]

    monkeypatch.setattr(buffered_protocol, "_COLLECT_SECONDS", 0)
    with no_collector():
        assert asyncio.run(lose()) == [None]
