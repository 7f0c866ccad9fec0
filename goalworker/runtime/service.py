"""The life of a service: it runs until a signal or an error ends it."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final, cast

import goalworker
from goalworker import config, logs, signals

log = logs.get("app")


def run(service: Coroutine[Any, Any, None]) -> None:
    """Run a service to its end; SIGTERM before it listens to signals itself cancels what it waits for."""
    signalled: list[bool] = []

    async def cancelled_by_sigterm() -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        signals.call(signal.SIGTERM, lambda: signalled.append(task.cancel()))
        await service

    try:
        asyncio.run(cancelled_by_sigterm())
    except asyncio.CancelledError:
        if not signalled:
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


async def wait_for_first(tasks: list[asyncio.Task[None]]) -> None:
    """Wait until one ends, and raise what ended it: none but the signals ends without an error."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        try:
            await task
        except BaseExceptionGroup as group:
            raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def cancel_and_wait(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended, whatever they raise."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


log = logs.get("app")


# Of the 20 s that a stop may take (contract section 6), what is under way gets.
DRAIN_SECONDS: Final = 12.0


def begin(settings: config.Settings, command: str) -> None:
    logs.configure(settings.log.level, settings.log.format, goalworker.__version__)
    logs.take_over_interpreter()
    if logs.is_json():
        log.info("starting", command=command, settings=config.masked(settings))
    else:
        where_from = config.sources_in_short(settings)
        log.info("starting", command=command, settings_from=where_from, more="`goalworker config show`")
    for name in settings.ignored_names:
        log.warning("setting_ignored", name=name)
