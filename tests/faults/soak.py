"""Run random faults under load for minutes, then check everything that happened: `python -m tests.faults.soak`.

One seed gives much the same faults and traffic, but never the same interleaving. The expected results are known by
construction, whatever the timing, so records are sent without waiting for the results of earlier ones.
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from goalworker.domain import events
from goalworker.stores import goal_store
from tests.faults import (
    asked_jobs,
    evidence,
    explained,
    faulty_servers,
    history,
    kept,
    moves_soak,
    outcomes,
    small_worlds,
    workers,
)
from tests.faults.chaos import INSIGHTS, WORKERS, Chaos
from tests.faults.traffic import Traffic
from tests.kit import clients, messages_in, support, worker_process, worlds
from tests.kit.naive_judge import Achieved

ROUND_SECONDS: Final = 0.5
RUNS_A_ROUND: Final = 20
WORLDS_A_ROUND: Final = 3
SHARE_SENT: Final = 0.9  # the rest is sent later: late starts, hits and ends
SUNSETS: Final = 10
EDIT_EVERY_ROUNDS: Final = 20
CATCH_UP_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Version:
    """Version of the goal that changes, in force from a moment on."""

    form_id: str
    is_active: bool
    since: datetime


class ChangingTraffic:
    """Traffic with small worlds, a goal that changes, and workflows that turn out to have been inactive."""

    def __init__(self, traffic: Traffic, drawn: list[worlds.World]) -> None:
        self.traffic = traffic
        self._worlds = drawn
        self._versions = [self._version(traffic.goals["edited"])]
        self._sunsets = [f"sunset-{number}" for number in range(SUNSETS)]
        traffic.chance.shuffle(self._sunsets)

    @classmethod
    async def begin(cls, client: clients.Client, seconds: float, seed: int) -> "ChangingTraffic":
        drawn = small_worlds.drawn(round(seconds / ROUND_SECONDS * WORLDS_A_ROUND), seed)
        await small_worlds.install(client.installation.database_url, drawn)
        traffic = await Traffic.begin(client, "soak", seed)
        for workflow in ("edited", *(f"sunset-{number}" for number in range(SUNSETS))):
            traffic.goals[workflow] = await client.create_goal(f"soak-{workflow}", "form_submitted", form_id=workflow)
        traffic.since = max(goal.created_at for goal in traffic.goals.values())
        return cls(traffic, drawn)

    async def run(self, seconds: float, database_up: asyncio.Lock) -> None:
        """Send records for this long, and in the end those that are still unsent."""
        began_at, rounds = time.monotonic(), 0
        while (passed := time.monotonic() - began_at) < seconds:
            rounds += 1
            if rounds % EDIT_EVERY_ROUNDS == 0:
                await self._edit(database_up)
            if self._sunsets and passed > seconds * (1 - len(self._sunsets) / SUNSETS):
                self._sunset(self._sunsets.pop())
            self._hit_edited_goal()
            for _ in range(min(WORLDS_A_ROUND, len(self._worlds))):
                small_worlds.plan(self.traffic, self._worlds.pop())
            self.traffic.plan(RUNS_A_ROUND, malformed=self.traffic.chance.randrange(3))
            await self.traffic.send(SHARE_SENT)
            await asyncio.sleep(ROUND_SECONDS)
        await self.traffic.send()

    def _sunset(self, workflow: str) -> None:
        """Plan enrollments that achieve a goal, and then a deactivation from before their hits."""
        traffic = self.traffic
        for _ in range(20):
            enrollment = traffic.enrollment(workflow)
            traffic.started(enrollment, traffic.at(0))
            traffic.achieves(enrollment, **{workflow: traffic.submits(enrollment, workflow, traffic.at(10))})
            traffic.waits(enrollment)
        traffic.changes(events.WORKFLOW_DEACTIVATED, workflow, traffic.at(5))

    def _hit_edited_goal(self) -> None:
        """Submit the form of the version in force at a moment, and at the same moment that of another version."""
        traffic, number = self.traffic, self.traffic.chance.randrange(len(self._versions))
        version, other = self._versions[number], traffic.chance.choice(self._versions)
        now = datetime.now(UTC)
        until = self._versions[number + 1].since if number + 1 < len(self._versions) else now
        moment = version.since + (until - version.since) * traffic.chance.random() * 0.999
        enrollment = traffic.enrollment("edited")
        traffic.started(enrollment, min(traffic.at(0), moment))  # the first version is older than the other goals
        if other.form_id != version.form_id:
            traffic.record(enrollment.submits(other.form_id, moment))
        if version.is_active:
            hit = traffic.hits(enrollment, "form.submitted", moment, {"form_id": version.form_id})
            traffic.achieves(enrollment, edited=Achieved(hit, number + 1))
            traffic.exits(enrollment)
        else:
            traffic.record(enrollment.submits(version.form_id, moment))

    async def _edit(self, database_up: asyncio.Lock) -> None:
        goal, number = self.traffic.goals["edited"], len(self._versions)
        if number % 4 == 3:
            change: dict[str, object] = {"is_active": not goal.is_active}
        else:
            change = {"criteria": {"form_id": f"edited-{number}"}}
        async with database_up:
            pool = self.traffic.client.pool
            self.traffic.goals["edited"] = await asked_jobs.retried(
                lambda: goal_store.update(pool, messages_in.TENANT, goal.id, change, actor="soak")
            )
        self._versions.append(self._version(self.traffic.goals["edited"]))

    @staticmethod
    def _version(goal: goal_store.StoredGoal) -> Version:
        return Version(goal.criteria["form_id"], goal.is_active, goal.updated_at)


# --- the whole ---


@contextlib.contextmanager
def _installed(servers: faulty_servers.FaultyServers, folder: Path) -> Iterator[worker_process.Installation]:
    with (
        support.migrated_database(servers.postgres.address) as template,
        worker_process.installation(
            servers.bootstrap_servers, servers.postgres.address, template, folder, settings=workers.SECRETS
        ) as installation,
    ):
        yield replace(
            installation, settings={**installation.settings, **servers.proxied_settings(installation.database_url)}
        )


@contextlib.asynccontextmanager
async def _chaos(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation, seed: int
) -> AsyncIterator[Chaos]:
    chaos = Chaos(servers, installation, random.Random(seed))
    try:
        yield chaos
    finally:
        for process in (*chaos.workers, *chaos.insights):
            process.kill()


async def soak(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation, seconds: float, seed: int
) -> int:
    """Return the number of problems."""
    async with clients.connect(installation) as client, _chaos(servers, installation, seed) as chaos:
        changing = await ChangingTraffic.begin(client, seconds, seed)
        traffic = changing.traffic
        unchanged = [goal for name, goal in traffic.goals.items() if name != "edited"]
        asked = asked_jobs.AskedJobs(client, unchanged, random.Random(f"jobs {seed}"))
        await asyncio.gather(
            chaos.run(seconds), changing.run(seconds, chaos.database_up), asked.run(seconds, chaos.database_up)
        )
        await chaos.stop_all()
        ended = time.monotonic()
        for _ in range(WORKERS):
            await chaos.start().ready()
        for _ in range(INSIGHTS):
            await chaos.start_insight().said("insight_ready")
        with contextlib.suppress(AssertionError):  # whatever is unfinished by then is reported as a problem
            await workers.settle(client, CATCH_UP_SECONDS)
            await kept.wait_for_share(client, 1, CATCH_UP_SECONDS)
        print(f"caught up {time.monotonic() - ended:.0f} s after the last fault")
        problems_of_jobs = await asked.problems()
        found = await evidence.gather(client)
        await chaos.stop_all()
        problems = [
            *history.problems(traffic.sent, traffic.expected, found),
            *await kept.problems_of(client, found.inputs),
            *await explained.problems(installation, traffic.expected, {*found.exits}, traffic.chance),
            *problems_of_jobs,
            *chaos.bad_exits,
            *(f"logged: {line}" for line in workers.leaks(installation)),
        ]
        _report(chaos, asked, found, problems)
        if problems:
            (installation.folder / "problems.txt").write_text("\n".join(problems) + "\n")
            (installation.folder / "sent.txt").write_text(
                "".join(f"{mark!r} {each}\n" for mark, each in traffic.sent.items())
            )
            (installation.folder / "found.txt").write_text(f"{found}\n")
        return len(problems)


def _report(chaos: Chaos, asked: asked_jobs.AskedJobs, found: outcomes.Found, problems: list[str]) -> None:
    outgoing = (found.achieved_topic, found.exit_topic)
    distinct = [outcomes.messages(topic) for topic in outgoing]
    letters = {tuple(each for each in letter.headers if each[0].startswith("x-")) for letter in found.dead_letters}
    corrections = sum(message.data.get("revision", 1) > 1 for message in distinct[0])
    repeats = sum(map(len, outgoing)) - sum(map(len, distinct)) + len(found.dead_letters) - len(letters)
    lines = {
        "events": len(found.inputs),
        "faults": chaos.faults.total(),
        **{f"  {name}": number for name, number in sorted(chaos.faults.items())},
        "achievements": sum(row.achieved is not None for row in found.achievements.values()),
        "revocations": sum(message.type == outcomes.REVOKED for message in distinct[0]),
        "exits": len(found.exits),
        "exits that wait": len(found.waiting_exits),
        "payments": len(found.payments),
        **dict(sorted(asked.states.items())),
        "dead letters": len(letters),
        "corrections": corrections,
        "repeats": repeats,
        "mismatches": len(problems),
    }
    print("\n".join(f"{name:<36}{number:>9,}" for name, number in lines.items()))
    print("\n".join(problems[:20]), flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--cells", type=int, default=1, choices=(1, 2))
    given = options.parse_args()
    print(f"seed {given.seed}, {given.minutes:g} minutes", flush=True)
    folder = Path(tempfile.mkdtemp(prefix=f"soak-{given.seed}-"))
    with faulty_servers.running() as servers, _installed(servers, folder) as installation:
        soaking = soak if given.cells == 1 else moves_soak.soak
        wrong = asyncio.run(soaking(servers, installation, given.minutes * 60, given.seed))
    if wrong:
        print(f"the history and the workers' logs are in {folder}; again: make soak SEED={given.seed}")
    else:
        shutil.rmtree(folder)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
