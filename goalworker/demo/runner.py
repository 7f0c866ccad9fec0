"""The demo from start to end: the only module that knows all of its parts."""

import asyncio
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiokafka
from msgspec import Struct
from rich.console import Console

from goalworker import embedded
from goalworker.demo import (
    api_check,
    check,
    clients,
    console_check,
    explanation_check,
    foreign_changes,
    generator,
    kept_history,
    malformed,
    pollers,
    records,
    seeding,
    sentences,
    view,
)
from goalworker.demo.interrupts import Interrupts
from goalworker.demo.listener import Listener
from goalworker.demo.membership import Membership
from goalworker.demo.monitor import Addresses, Monitor
from goalworker.demo.own_offsets import OwnOffsets
from goalworker.demo.processes import Process
from goalworker.demo.tenant_setup import TenantSetup
from goalworker.demo.traffic import Traffic
from goalworker.demo.waiting import POLL_SECONDS, background, wait_while_moving
from goalworker.embedded import machine


class Options(Struct, frozen=True):
    """The traffic, and its end: after `events` records, after `seconds`, or with Ctrl-C if both are None."""

    rate: float
    tenants: int
    seed: int
    events: int | None
    seconds: float | None


class Result(Struct, frozen=True):
    """The result of a run; verdict is None if nothing was checked, logged_errors are the last ones of the worker."""

    verdict: check.Verdict | None
    logged_errors: list[str]
    closing: str


async def run(options: Options, pair: embedded.Pair, home: Path, console: Console, *, is_kept: bool) -> Result:
    """Run the demo on servers that are up; logs go to `home`, which is removed at the end unless it is kept."""
    interrupts = Interrupts()
    await seeding.prepare(pair.database_url, _environment(pair))
    names = await seeding.unused_tenant_names(pair.database_url, options.tenants)
    setup = await seeding.seed(pair.database_url, names)
    api = await api_check.prepare(pair.database_url, names[0])
    async with clients.connect(pair.bootstrap_servers) as connected:
        monitor = await _monitor(options, pair, setup, connected, api, home, is_kept=is_kept)
        show = view.live if view.is_live(console) else view.lines
        async with background(
            monitor.worker.keep_running(),
            monitor.api.keep_running(),
            monitor.insight.keep_running(),
            monitor.listener.listen(),
            pollers.poll_commits(connected.admin, monitor.traffic),
            pollers.poll_members(connected.admin, monitor.membership),
            pollers.poll_paused_topics(pair.database_url, monitor),
            show(monitor, console),
        ):
            await _send_traffic(options, monitor, interrupts)
            await wait_while_moving(_wait_for_messages(monitor, pair.database_url), monitor, interrupts)
            await wait_while_moving(_wait_for_history(monitor, pair.database_url), monitor, interrupts)
            await wait_while_moving(monitor.api.wait_until_ready(), monitor, interrupts)
            verdict = None
            if not interrupts.skips_check:
                verdict = await _check(pair, monitor, api)
                monitor.phase = sentences.CHECKED
    return Result(verdict, monitor.worker.logged_errors(), monitor.closing())


# --- the parts ---


def _environment(pair: embedded.Pair) -> dict[str, str]:
    return {
        "GOALWORKER_DATABASE__URL": pair.database_url,
        "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": pair.bootstrap_servers,
        "GOALWORKER_EVENTS__MAX_BYTES": str(malformed.MAX_BYTES),
    }


async def _monitor(
    options: Options,
    pair: embedded.Pair,
    setup: TenantSetup,
    connected: clients.Clients,
    api: api_check.Access,
    home: Path,
    *,
    is_kept: bool,
) -> Monitor:
    """Put the parts together; nothing is started yet."""
    inputs = await clients.partitions_of(connected.admin, records.TOPICS.inputs)
    source = generator.Generator(setup, options.seed, lambda: datetime.now(UTC))
    own_offsets = OwnOffsets(await connected.consumer.end_offsets(inputs))
    traffic = Traffic(connected.producer, source, options.seed, own_offsets)
    group = Membership()
    await pollers.note_earlier_members(connected.admin, group)
    environment, notes = _environment(pair), list[str]()
    process = partial(Process, home=home, report=notes.append, is_kept=is_kept)
    worker = process("worker", "run", environment, on_death=group.worker_died)
    api_environment = environment | {"GOALWORKER_API__PORT": api.url.rpartition(":")[2]}
    shell_file = _write_shell_file(home, environment | {"GW": api.url, "KEY": api.key})
    notes.insert(0, f"console of the tenant {setup.tenants[0]}, by a link that logs in once: {api.link}")
    notes.append(f"API of the tenant {setup.tenants[0]}: export GW={api.url} KEY={api.key}")
    notes.append(f"all addresses, for a shell: . {shell_file}")
    return Monitor(
        setup,
        traffic,
        Listener(connected.consumer, setup.tenants, traffic),
        worker,
        process("api", "api", api_environment),
        process("insight", "insight", environment),
        group,
        Addresses(api.link, f"{api.url}/docs", f"http://{machine.LOOPBACK}:{worker.port}/metrics", str(shell_file)),
        notes,
    )


def _write_shell_file(home: Path, variables: Mapping[str, str]) -> Path:
    """Write the variables for a shell that uses the demo's servers, into a file that only the user may read.

    In such a shell the command `goalworker` is found, too.
    """
    path = home / "env"
    path.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'PATH="$PATH":{shlex.quote(str(Path(sys.executable).parent))}')
    path.write_text("\n".join([*lines, ""]))
    return path


# --- the run ---


async def _send_traffic(options: Options, monitor: Monitor, interrupts: Interrupts) -> None:
    """Send records once all processes are ready, until the options or Ctrl-C end it; then finish what was begun."""
    if not await wait_while_moving(_wait_until_ready(monitor), monitor, interrupts):
        return
    monitor.count_from_now()

    def is_over() -> bool:
        return bool(
            interrupts.count
            or (options.events is not None and monitor.traffic.sent >= options.events)
            or (options.seconds is not None and monitor.seconds >= options.seconds)
        )

    await monitor.traffic.run(options.rate, is_over)
    monitor.phase = "waiting for the worker to finish"
    await wait_while_moving(monitor.traffic.finish(), monitor, interrupts)


async def _wait_until_ready(monitor: Monitor) -> None:
    """Return once all processes are ready and the worker has committed the first records."""
    await asyncio.gather(*(process.wait_until_ready() for process in (monitor.worker, monitor.api, monitor.insight)))
    await monitor.traffic.send_opening()


async def _wait_for_messages(monitor: Monitor, database_url: str) -> None:
    """Return once the outbox holds no message of the demo and the listener has read every message."""
    monitor.phase = "checking"
    scope = foreign_changes.Scope(monitor.traffic.enrollments, foreign_changes.ForeignChanges())
    while (  # noqa: ASYNC110 - neither the outbox nor the topics notify anybody
        await check.count_unsent(database_url, scope, monitor.setup) or not await monitor.listener.is_caught_up()
    ):
        await asyncio.sleep(POLL_SECONDS)


async def _wait_for_history(monitor: Monitor, database_url: str) -> None:
    """Return once history has been read up to the demo's last record; it follows some seconds behind."""
    monitor.phase = "waiting for history"
    while lag := await kept_history.behind(database_url, monitor.traffic.offsets, monitor.listener.received.exits):
        monitor.history_lag = lag
        await asyncio.sleep(POLL_SECONDS)


async def _check(pair: embedded.Pair, monitor: Monitor, api: api_check.Access) -> check.Verdict:
    """Compare the expected outcome of the demo's own traffic with the database, the topics and the API."""
    setup, traffic = monitor.setup, monitor.traffic
    expected = traffic.outcome()
    async with aiokafka.AIOKafkaConsumer(**clients.consumer_options(pair.bootstrap_servers)) as consumer:
        changes = await foreign_changes.find(pair.database_url, setup, consumer, traffic.own_offsets)
    scope = foreign_changes.Scope(traffic.enrollments, changes)
    stored = await check.compare(
        pair.database_url, setup, expected, monitor.listener.received, scope, traffic.own_offsets, traffic.lag_records
    )

    async def shared_workflows() -> set[str]:
        return await foreign_changes.shared_workflows(pair.database_url, setup.tenants[0], scope)

    by_api = await api_check.compare(api, setup, expected, shared_workflows)
    history = await kept_history.compare(
        pair.database_url, setup.tenants, traffic.sent_events, changes, traffic.own_offsets
    )
    exits = await kept_history.compare_exits(pair.database_url, setup.tenants, monitor.listener.received.exits)
    drawn = explanation_check.draw(traffic.enrollments, scope, setup.tenants[0])
    explained = await explanation_check.compare(api, setup, expected, drawn)
    logins = await console_check.compare(pair.database_url, api.url, api.holder)
    rows = [*stored.rows, *by_api.rows, history, exits, explained, logins]
    return check.Verdict(rows, stored.not_checked + by_api.not_checked)
