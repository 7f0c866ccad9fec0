"""The life of a service: it begins, runs until a signal or an error ends it, and stops."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import goalworker
from goalworker import config, logs, signals
from goalworker.kafka.consumer import Consumer
from goalworker.runtime import ops_port

log = logs.get("app")

# Seconds that requests and batches get to finish when the service is stopped; then they are cancelled. A stop may take
# 20 s (contract section 6), and the rest is for closing connections.
DRAIN_SECONDS: Final = 12.0


def begin(settings: config.Settings, command: str) -> None:
    """Configure the logs, and log that the service starts and with which settings."""
    logs.configure(settings.log.level, settings.log.format, goalworker.__version__)
    logs.take_over_interpreter()
    if logs.is_json():
        log.info("starting", command=command, settings=config.masked(settings))
    else:
        sources = config.sources_in_short(settings)
        log.info("starting", command=command, settings_from=sources, more="`goalworker config show`")
    for name in settings.ignored_names:
        log.warning("setting_ignored", name=name)


def run(service: Coroutine[Any, Any, None]) -> None:
    """Run a service to its end. Until it waits for signals itself, SIGTERM cancels it, which is a normal end too."""
    cancelled: list[bool] = []

    async def cancel_on_sigterm() -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        signals.call(signal.SIGTERM, lambda: cancelled.append(task.cancel()))
        await service

    try:
        asyncio.run(cancel_on_sigterm())
    except asyncio.CancelledError:
        if not cancelled:
            raise
        log.info("stopped")
    finally:
        signals.ignore()


async def wait_for_signal() -> None:
    """Return when SIGTERM, SIGINT or SIGHUP arrives."""
    stop = asyncio.Event()
    for number in signals.ENDING:
        signals.call(number, stop.set)
    await stop.wait()


@asynccontextmanager
async def running(parts: Mapping[str, Coroutine[Any, Any, None]]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run the parts of a service as named tasks; when the block ends, cancel them and ignore what they raise then."""
    tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def wait_for_first(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Return when the first task ends, or raise its error: of a group of errors, the first."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        try:
            await task
        except BaseExceptionGroup as group:
            raise _first_error(group) from None


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first_error(error) if isinstance(error, BaseExceptionGroup) else error


async def consume_until_stopped(
    consuming: Coroutine[Any, Any, None],
    stop: Callable[[], None],
    others: Mapping[str, Coroutine[Any, Any, None]],
    health: ops_port.Health,
    consumer: Consumer,
    ready: str,
) -> None:
    """Run a consuming loop and the other parts of its service until one ends, then stop the loop and let it finish.

    ready is the event that is logged once the consumer has joined its group.
    """
    parts = {"consumer": consuming, "ready": _announce(health, consumer, ready), **others, "signals": wait_for_signal()}
    async with running(parts) as tasks:
        loop = tasks[0]
        health.consumer_alive = lambda: not loop.done()
        await wait_for_first(tasks)
        log.info("stopping")
        stop()
        await asyncio.wait({loop}, timeout=DRAIN_SECONDS)
        if loop.done():
            await loop


async def _announce(health: ops_port.Health, consumer: Consumer, ready: str) -> None:
    await consumer.joined.wait()
    health.started = True
    log.info(ready, partitions=len(consumer.partitions))
    await asyncio.Event().wait()
