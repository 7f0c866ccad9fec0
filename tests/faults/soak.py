"""Minutes of random faults under load, and then one look at everything: `python -m tests.faults.soak`.

The same seed gives much the same faults and traffic, though never the same interleaving. What must come of the traffic
is known by construction, whatever the timing: nothing here waits for one thing to be judged before it says the next.
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

from goalworker.postgres import database_errors
from goalworker.stores import goal_store
from tests.faults import evidence, history, machines, story, workers
from tests.faults.chaos import CREW, Chaos
from tests.kit import conversation, messages_in, support, worker_process

ROUND_SECONDS: Final = 0.5
RUNS_A_ROUND: Final = 20
SHARE_TOLD: Final = 0.9  # the rest is told later: ends, starts and hits that come late
SUNSETS: Final = 10
EDIT_EVERY_ROUNDS: Final = 20
CATCH_UP_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Version:
    """What a goal asked for, from when to when."""

    form_id: str
    is_active: bool
    since: datetime


class Traffic:
    """A story with goals that change and workflows that turn out to have been inactive."""

    def __init__(self, told: story.Story) -> None:
        self.told = told
        self._versions = [self._version(told.goals["edited"])]
        self._sunsets = [f"sunset-{number}" for number in range(SUNSETS)]
        told.chance.shuffle(self._sunsets)

    @classmethod
    async def begin(cls, talk: conversation.Talk, seed: int) -> "Traffic":
        told = await story.begin(talk, "soak", seed)
        for workflow in ("edited", *(f"sunset-{number}" for number in range(SUNSETS))):
            told.goals[workflow] = await talk.goal(f"soak-{workflow}", "form_submitted", form_id=workflow)
        told.since = max(goal.created_at for goal in told.goals.values())
        return cls(told)

    async def run(self, seconds: float, database_whole: asyncio.Lock) -> None:
        """Tell more and more for so long, and in the end what is still untold."""
        began, rounds = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            rounds += 1
            if rounds % EDIT_EVERY_ROUNDS == 0:
                await self._edit(database_whole)
            if self._sunsets and passed > seconds * (1 - len(self._sunsets) / SUNSETS):
                self._sunset(self._sunsets.pop())
            self._meet_edited_goal()
            self.told.plan(RUNS_A_ROUND, malformed=self.told.chance.randrange(3))
            await self.told.tell(SHARE_TOLD)
            await asyncio.sleep(ROUND_SECONDS)
        await self.told.tell()

    def _sunset(self, workflow: str) -> None:
        """Runs that achieve something, until it is said that the workflow was inactive all along."""
        told = self.told
        for _ in range(20):
            run = told.run(workflow)
            told.started(run, told.at(0))
            told.submits(run, workflow, told.at(10))
            told.may_exit(run)
        told.says(messages_in.deactivated(f"soak-{workflow}", told.at(5)))

    def _meet_edited_goal(self) -> None:
        """Do what a version of the goal asks for while it is in force, and what another one does just then."""
        told, number = self.told, self.told.chance.randrange(len(self._versions))
        version, other = self._versions[number], told.chance.choice(self._versions)
        now = datetime.now(UTC)
        until = self._versions[number + 1].since if number + 1 < len(self._versions) else now
        moment = version.since + (until - version.since) * told.chance.random() * 0.999
        run = told.run("edited")
        told.started(run, min(told.at(0), moment))  # the first version is older than the goals made after it
        if other.form_id != version.form_id:
            told.says(run.submits(other.form_id, moment))
        if version.is_active:
            told.achieves(run, edited=told.hits(run, version.form_id, moment))
            told.exits(run)
        else:
            told.says(run.submits(version.form_id, moment))

    async def _edit(self, database_whole: asyncio.Lock) -> None:
        goal, number = self.told.goals["edited"], len(self._versions)
        if number % 4 == 3:
            change: dict[str, object] = {"is_active": not goal.is_active}
        else:
            change = {"criteria": {"form_id": f"edited-{number}"}}
        async with database_whole:
            self.told.goals["edited"] = await _until_it_works(self.told.talk, goal, change)
        self._versions.append(self._version(self.told.goals["edited"]))

    @staticmethod
    def _version(goal: goal_store.StoredGoal) -> Version:
        return Version(goal.criteria["form_id"], goal.is_active, goal.updated_at)


async def _until_it_works(
    talk: conversation.Talk, goal: goal_store.StoredGoal, change: dict[str, object]
) -> goal_store.StoredGoal:
    """Change a goal: a worker may stand still with the lock, and our own connection may be from before a restart."""
    while True:
        try:
            return await goal_store.update(talk.pool, messages_in.TENANT, goal.id, change, actor="soak")
        except Exception as error:
            if not (isinstance(error, goal_store.LockBusyError) or database_errors.is_transient(error)):
                raise
            await asyncio.sleep(ROUND_SECONDS)


# --- the whole ---


@contextlib.contextmanager
def _installed(bad: machines.Machines, folder: Path) -> Iterator[worker_process.Installation]:
    with (
        support.migrated_database(bad.postgres.address) as template,
        worker_process.installation(
            bad.bootstrap_servers, bad.postgres.address, template, folder, settings=workers.SECRETS
        ) as there,
    ):
        yield replace(there, settings={**there.settings, **bad.by_wire(there.database_url)})


@contextlib.asynccontextmanager
async def _crew(bad: machines.Machines, there: worker_process.Installation, seed: int) -> AsyncIterator[Chaos]:
    chaos = Chaos(bad, there, random.Random(seed))
    try:
        yield chaos
    finally:
        for worker in chaos.crew:
            worker.kill()


async def soak(bad: machines.Machines, there: worker_process.Installation, seconds: float, seed: int) -> int:
    """Return how much was wrong."""
    async with conversation.talk(there) as talk, _crew(bad, there, seed) as chaos:
        traffic = await Traffic.begin(talk, seed)
        await asyncio.gather(chaos.run(seconds), traffic.run(seconds, chaos.database_whole))
        await chaos.dismiss()
        ended = time.monotonic()
        for _ in range(CREW):
            await chaos.hire().ready()
        with contextlib.suppress(AssertionError):  # what is not finished by then is among the problems
            await workers.settled(talk, CATCH_UP_SECONDS)
        print(f"caught up {time.monotonic() - ended:.0f} s after the last fault")
        found = await evidence.gather(talk)
        await chaos.dismiss()
        told = history.problems(traffic.told.tellings, traffic.told.expected, found)
        problems = [*told, *chaos.bad_ends, *(f"said: {line}" for line in workers.leaks(there))]
        _report(chaos, traffic.told, found, problems)
        if problems:
            (there.folder / "problems.txt").write_text("\n".join(problems) + "\n")
            (there.folder / "tellings.txt").write_text(
                "".join(f"{mark!r} {each}\n" for mark, each in traffic.told.tellings.items())
            )
            (there.folder / "found.txt").write_text(f"{found}\n")
        return len(problems)


def _report(chaos: Chaos, told: story.Story, found: history.Found, problems: list[str]) -> None:
    outgoing = (found.achieved_topic, found.exit_topic)
    distinct = [history.messages(topic) for topic in outgoing]
    letters = {tuple(each for each in letter.headers if each[0].startswith("x-")) for letter in found.dead_letters}
    corrections = sum(message.data.get("revision", 1) > 1 for message in distinct[0])
    repeats = sum(map(len, outgoing)) - sum(map(len, distinct)) + len(found.dead_letters) - len(letters)
    lines = {
        "events": len(found.inputs),
        "faults": chaos.faults.total(),
        **{f"  {name}": number for name, number in sorted(chaos.faults.items())},
        "achievements": sum(not row.revoked for row in found.achievements.values()),
        "exits": len(found.exits),
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
    given = options.parse_args()
    print(f"seed {given.seed}, {given.minutes:g} minutes", flush=True)
    folder = Path(tempfile.mkdtemp(prefix=f"soak-{given.seed}-"))
    with machines.running() as bad, _installed(bad, folder) as there:
        wrong = asyncio.run(soak(bad, there, given.minutes * 60, given.seed))
    if wrong:
        print(f"the history and the workers' logs are in {folder}; again: make soak SEED={given.seed}")
    else:
        shutil.rmtree(folder)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
