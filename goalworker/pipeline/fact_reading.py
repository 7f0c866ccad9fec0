"""Facts of judgements: every committed one, read after the enrollments are locked (design, The flow)."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from goalworker.domain import evidence, ids, occurrences
from goalworker.domain.facts import (
    Achievement,
    ContactKey,
    Enrollment,
    EnrollmentKey,
    Hit,
    PersonKey,
    Reversal,
    SubjectKey,
    Trigger,
    WorkflowKey,
    WorkflowState,
    enrollment_key,
)
from goalworker.goal_index import index
from goalworker.postgres import arrays, connections, tables

Refresh = Callable[[connections.Connection], Awaitable[None]]
Subjects = Callable[[Collection[PersonKey]], Iterable[SubjectKey]]
"""Return what else reversals of these people may concern, besides the hits that are stored."""

# Reversals of a contact that are read whatever they concern. Of a contact with more, such as one for all guests of a
# shop, only those of its hits are read, in a statement of their own: which ones these are, only the hits say.
REVERSALS_MAX: Final = 100

_CONTACTS: Final = arrays.keys("tenant_id", "workflow_id", "contact_id")
_WORKFLOWS: Final = arrays.keys("tenant_id", "workflow_id", first=_CONTACTS.next)
_ENROLLMENTS: Final = arrays.keys("tenant_id", "enrollment_id", first=_WORKFLOWS.next)
_PEOPLE: Final = arrays.keys("tenant_id", "contact_id", first=_ENROLLMENTS.next)
_HASHES: Final[arrays.Columns[ContactKey]] = arrays.Columns(
    arrays.hidden("contact_hash", "bigint", lambda contacts: [ids.contact_hash(*contact) for contact in contacts]),
    first=_PEOPLE.next,
)
_STATES_OF: Final = arrays.keys("tenant_id", "workflow_id")
_SUBJECTS: Final = arrays.keys("tenant_id", "contact_id", "subject_id")


class _FactRow(NamedTuple):
    """A fact of any kind, with NULL for the columns of other kinds; owner_id is a workflow or an enrollment.

    more is JSON: of an achievement its further evidence, and of a reversal what it says.
    """

    kind: str
    tenant_id: Any
    owner_id: Any
    contact_id: Any
    goal_id: Any
    goal_version: Any
    event_source: Any
    event_id: Any
    at: Any
    data: Any
    traceparent: Any
    tracestate: Any
    enrolled_at: Any
    revision: Any
    flag: Any
    more: Any


_FACT_TYPES: Final = {
    "goal_id": "uuid",
    "goal_version": "int",
    "at": "timestamptz",
    "enrolled_at": "timestamptz",
    "flag": "bool",
}
"""Types of the columns that are not texts; the first SELECT of a union decides on the types."""


def _facts_select(kind: str, columns: Mapping[str, str], *, is_first: bool = False) -> str:
    def selected(name: str) -> str:
        if name in columns:
            return columns[name]
        return f"NULL::{_FACT_TYPES[name]}" if is_first and name in _FACT_TYPES else "NULL"

    return ", ".join([f"SELECT '{kind}'", *(selected(name) for name in _FactRow._fields[1:])])


def _same(table: str, *names: str) -> dict[str, str]:
    return {name: f"{table}.{name}" for name in names}


_EVIDENCE: Final = ("goal_id", "goal_version", "event_source", "event_id", "traceparent", "tracestate")
_HIT: Final = _same("h", "tenant_id", "contact_id", *_EVIDENCE) | {
    "owner_id": "h.workflow_id",
    "at": "h.event_time",
    "data": "h.data::text",
}
_STATE: Final = _same("s", "tenant_id") | {"owner_id": "s.workflow_id", "at": "s.since", "flag": "s.active"}
_ACHIEVEMENT: Final = _same("a", "tenant_id", "enrolled_at", "revision", *_EVIDENCE) | {
    "owner_id": "a.enrollment_id",
    "at": "a.achieved_at",
    "data": "a.data::text",
    "flag": "a.revoked_at IS NOT NULL",
    "more": "a.counted",
}
_REVERSAL: Final = _same("r", "tenant_id", "contact_id", "event_source", "event_id") | {
    "at": "r.event_time",
    "more": "json_build_array(r.type, r.subject_id, r.refund_id, r.amount::text, r.currency)::text",
}

# Hits without a day, and those of all days. A hit that was found again on another day is there twice: of two, that of
# the earlier day stands, whose revision is smaller.
#
# OFFSET 0 keeps it a look into the index of each day, whatever the planner knows of the day.
_HITS: Final = f"""
{_facts_select("hit", _HIT)}
FROM {_CONTACTS.unnested("wanted")}
JOIN goal_hits_kept h USING (tenant_id, workflow_id, contact_id)
UNION ALL
{_facts_select("hit", _HIT | {"revision": "h.recorded_on - date '1970-01-01'"})}
FROM unnest({_CONTACTS.arrays}, {_HASHES.arrays}) AS wanted ({_CONTACTS.names}, {_HASHES.names})
CROSS JOIN LATERAL (
    SELECT * FROM goal_hits h
    WHERE h.contact_hash = wanted.contact_hash AND h.{tables.OF_DAYS} AND h.tenant_id = wanted.tenant_id
        AND h.workflow_id = wanted.workflow_id AND h.contact_id = wanted.contact_id
    OFFSET 0
) h
"""

# All facts in one statement, since each is a round trip; with them, in the same snapshot, the revision of the goals,
# since another worker's hit may be newer than our goals.
_READ_FACTS: Final = f"""
{_facts_select("goals", {"revision": "revision"}, is_first=True)}
FROM goal_revision
UNION ALL
{_HITS}
UNION ALL
{_facts_select("state", _STATE)}
FROM {_WORKFLOWS.unnested("wanted")}
JOIN workflow_states s USING (tenant_id, workflow_id)
UNION ALL
{_facts_select("achievement", _ACHIEVEMENT)}
FROM {_ENROLLMENTS.unnested("wanted")}
JOIN achievements a USING (tenant_id, enrollment_id)
UNION ALL
{_facts_select("reversal", _REVERSAL)}
FROM {_PEOPLE.unnested("wanted")}
CROSS JOIN LATERAL (
    SELECT * FROM reversals r
    WHERE r.tenant_id = wanted.tenant_id AND r.contact_id = wanted.contact_id
    ORDER BY r.event_source, r.event_id LIMIT {REVERSALS_MAX + 1}
) r
"""

_READ_REVERSALS: Final = f"""
{_facts_select("reversal", _REVERSAL, is_first=True)}
FROM {_SUBJECTS.unnested("wanted")}
JOIN reversals r USING (tenant_id, contact_id, subject_id)
"""

_READ_STATES: Final = f"""
SELECT s.tenant_id, s.workflow_id, s.since, s.active
FROM {_STATES_OF.unnested("wanted")}
JOIN workflow_states s USING (tenant_id, workflow_id)
"""
_SHARE_STATES: Final = f"""
SELECT FROM {_STATES_OF.unnested("wanted")}
JOIN workflow_states s USING (tenant_id, workflow_id)
ORDER BY s.tenant_id, s.workflow_id, s.since
FOR SHARE OF s
"""


class Facts(msgspec.Struct, frozen=True):
    """Facts by what they concern; states are sorted by their time, and reversals are those that concern the hits."""

    hits: defaultdict[ContactKey, list[Hit]]
    states: defaultdict[WorkflowKey, list[WorkflowState]]
    achievements: defaultdict[EnrollmentKey, list[Achievement]]
    reversals: defaultdict[PersonKey, list[Reversal]]


def _no_subjects(_people: Collection[PersonKey]) -> Iterable[SubjectKey]:
    return ()


async def read(
    connection: connections.Connection,
    enrollments: Sequence[Enrollment],
    batch_hits: Sequence[Hit],
    goal_index: index.Index,
    refresh: Refresh,
    subjects: Subjects = _no_subjects,
) -> Facts:
    """Return the facts of enrollments that are locked, with the batch's own hits, once the goals are up to date."""
    contacts = sorted({contact_key(enrollment) for enrollment in enrollments})
    workflows = sorted({contact[:2] for contact in contacts})
    keys = [enrollment_key(enrollment) for enrollment in enrollments]
    people = sorted({(tenant_id, contact_id) for tenant_id, _, contact_id in contacts})
    facts = Facts(defaultdict(list), defaultdict(list), defaultdict(list), defaultdict(list))
    arguments = (*_CONTACTS.arguments(contacts), *_WORKFLOWS.arguments(workflows), *_ENROLLMENTS.arguments(keys))
    more = (*_PEOPLE.arguments(people), *_HASHES.arguments(contacts))
    hits: list[_FactRow] = []
    for values in await connection.fetch(_READ_FACTS, *arguments, *more):
        row = _FactRow(*values)
        if row.kind == "hit":
            hits.append(row)
        elif row.kind != "goals":
            _ADD[row.kind](facts, row)
        elif row.revision > goal_index.revision:
            await refresh(connection)
    _add_hits(facts, hits)
    for hit in batch_hits:  # An old hit may be swept between the two phases: the batch still has it.
        facts.hits[hit.tenant_id, hit.workflow_id, hit.contact_id].append(hit)
    _sort_states(facts)
    if many := {person for person, found in facts.reversals.items() if len(found) > REVERSALS_MAX}:
        await _read_reversals(connection, facts, many, {*_subjects(enrollments, facts, many), *subjects(many)})
    return facts


async def _read_reversals(
    connection: connections.Connection, facts: Facts, people: Collection[PersonKey], subjects: Collection[SubjectKey]
) -> None:
    """Read the reversals of people again, those of subjects only."""
    for person in people:
        del facts.reversals[person]
    wanted = sorted(subject for subject in subjects if subject[:2] in people)
    for values in await connection.fetch(_READ_REVERSALS, *_SUBJECTS.arguments(wanted)) if wanted else ():
        _add_reversal(facts, _FactRow(*values))


def _subjects(enrollments: Iterable[Enrollment], facts: Facts, people: Collection[PersonKey]) -> Iterable[SubjectKey]:
    """Return what reversals of people may concern: the subjects of all that is judged."""
    for enrollment in enrollments:
        person = (enrollment.tenant_id, enrollment.contact_id)
        if person in people:
            stored = facts.achievements.get(enrollment_key(enrollment), ())
            for hit in evidence.hits_of(enrollment, stored, facts.hits.get(contact_key(enrollment), ())):
                for name in occurrences.names_of(hit.trigger.data):
                    yield (*person, name)


async def settle_states(connection: connections.Connection, facts: Facts, workflows: Collection[WorkflowKey]) -> None:
    """Lock the states of workflows until the transaction ends, and read them again.

    An exit is about to wait. Either the activation that would send it is among these states, or whoever records it
    waits for this transaction before it looks for waiting exits.
    """
    arguments = _STATES_OF.arguments(sorted(workflows))
    await connection.execute(_SHARE_STATES, *arguments)
    for workflow_key in workflows:
        facts.states.pop(workflow_key, None)
    for tenant_id, workflow_id, since, active in await connection.fetch(_READ_STATES, *arguments):
        facts.states[tenant_id, workflow_id].append(WorkflowState(since, active))
    _sort_states(facts)


async def states_of(connection: connections.Connection, workflow_key: WorkflowKey) -> list[WorkflowState]:
    """Return the states of one workflow, in order."""
    rows = await connection.fetch(_READ_STATES, *_STATES_OF.arguments([workflow_key]))
    return sorted([WorkflowState(since, active) for _, _, since, active in rows], key=attrgetter("since"))


def _sort_states(facts: Facts) -> None:
    for states in facts.states.values():
        states.sort(key=attrgetter("since"))


def contact_key(enrollment: Enrollment) -> ContactKey:
    """Return the contact in the workflow of an enrollment."""
    return (enrollment.tenant_id, enrollment.workflow_id, enrollment.contact_id)


def _add_hits(facts: Facts, rows: list[_FactRow]) -> None:
    """Add hits in the order of their days, since a judgement takes the first one of an event and goal."""
    if len({row.revision for row in rows}) > 1:
        rows.sort(key=lambda row: -1 if row.revision is None else row.revision)
    for row in rows:
        hit = Hit(row.tenant_id, row.owner_id, row.contact_id, row.goal_id, row.goal_version, _trigger(row))
        facts.hits[row.tenant_id, row.owner_id, row.contact_id].append(hit)


def _add_state(facts: Facts, row: _FactRow) -> None:
    facts.states[row.tenant_id, row.owner_id].append(WorkflowState(row.at, row.flag))


def _add_achievement(facts: Facts, row: _FactRow) -> None:
    achievement = Achievement(row.goal_id, row.goal_version, row.enrolled_at, _trigger(row), row.revision, row.flag)
    if row.more is not None:
        counted, others = evidence.others_from_json(row.more)
        achievement = msgspec.structs.replace(achievement, counted=counted, others=others)
    facts.achievements[row.tenant_id, row.owner_id].append(achievement)


class _Said(msgspec.Struct, array_like=True):
    type: str
    subject_id: str
    refund_id: str | None
    amount: Decimal | None
    currency: str | None


_SAID: Final = msgspec.json.Decoder(_Said)


def _add_reversal(facts: Facts, row: _FactRow) -> None:
    said = msgspec.structs.astuple(_SAID.decode(row.more))
    facts.reversals[row.tenant_id, row.contact_id].append(Reversal(row.event_source, row.event_id, row.at, *said))


_ADD: Final[Mapping[str, Callable[[Facts, _FactRow], None]]] = {
    "state": _add_state,
    "achievement": _add_achievement,
    "reversal": _add_reversal,
}


def _trigger(row: _FactRow) -> Trigger:
    return Trigger(row.event_source, row.event_id, row.at, row.data.encode(), row.traceparent, row.tracestate)
