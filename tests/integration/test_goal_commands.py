"""`goalworker goals` as called from a shell: output, streams and exit codes."""

import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import __main__
from goalworker.admin import goal_file
from goalworker.cli import streams
from goalworker.postgres import connections, migrations, tables
from goalworker.stores import goal_store, seen_values
from tests.kit import forker, shells, support

TENANT, WORKFLOW = "acme", "onboarding"
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
UNKNOWN = "00000000-0000-0000-0000-000000000000"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


Goals = Callable[..., Outcome]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Goals:
    """Run `goalworker goals COMMAND --tenant acme ...` without a database."""
    monkeypatch.setenv("GOALWORKER_DATABASE__URL", NOWHERE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(streams, "guard", lambda: None)  # the test itself reads the streams of this process
    monkeypatch.setattr("getpass.getuser", lambda: "ann")

    def run(command: str, *arguments: object, tenant: str = TENANT) -> Outcome:
        capsys.readouterr()
        words = ["goalworker", "goals", command, "--tenant", tenant, *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            __main__.main()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def goals(offline: Goals, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Goals:
    """Run `goalworker goals COMMAND --tenant acme ...` with a database."""
    monkeypatch.setenv("GOALWORKER_DATABASE__URL", database_url)
    return offline


def create(goals: Goals, tag_id: str = "t1", *arguments: str) -> dict[str, Any]:
    made = goals("create", WORKFLOW, "--type", "tag_added", "--criteria", f"tag_id={tag_id}", "--json", *arguments)
    goal: dict[str, Any] = made.json
    return goal


# --- one goal ---


def test_a_goal_is_created_and_shown(goals: Goals) -> None:
    goal = create(goals, "t1", "--name", "Signed")
    assert goals("get", goal["id"], "--json").json == goal
    assert goals("list", WORKFLOW, "--json").json == goals("list", "--json").json == [goal]
    assert goals("list", "another", "--json").json == goals("list", "--json", tenant="other").json == []
    assert (goal["name"], goal["criteria"], goal["version"], goal["created_by"]) == (
        "Signed",
        {"tag_id": "t1"},
        1,
        "cli:ann",
    )


def test_goals_are_printed_as_a_table_by_default(goals: Goals) -> None:
    create(goals)
    header, line = goals("list", WORKFLOW).out.splitlines()
    assert header.startswith("ID")
    assert '{"tag_id":"t1"}' in line
    assert goals("list", "another").out == "no goals\n"


@pytest.mark.parametrize(
    ("goal_type", "given", "criteria"),
    [
        ("tag_added", ["tag_id=9", "tag_name=a=b"], {"tag_id": "9", "tag_name": "a=b"}),
        ("purchase_made", ['{"min_amount": 10.10}'], {"min_amount": "10.1"}),
        ("purchase_made", ["min_amount=100.00", "currency=eur"], {"min_amount": "100", "currency": "EUR"}),
        ("purchase_made", ["any_purchase=true"], {"any_purchase": True}),
        ("purchase_made", ['{"min_amount": 0.123456789012345678}'], {"min_amount": "0.123456789012345678"}),
        ("tag_added", ["tag_id=9", "tag_name=a", "tag_id=10", "tag_id=9"], {"tag_id": ["10", "9"], "tag_name": "a"}),
        ("form_submitted", ['{"form_id": ["f2", "f1"]}'], {"form_id": ["f1", "f2"]}),
    ],
)
def test_criteria_are_json_or_pairs_and_amounts_exact(
    goals: Goals, goal_type: str, given: list[str], criteria: dict[str, Any]
) -> None:
    options = [word for each in given for word in ("--criteria", each)]
    assert goals("create", WORKFLOW, "--type", goal_type, *options, "--json").json["criteria"] == criteria


def test_a_warning_about_a_goal_goes_to_stderr(goals: Goals, tmp_path: Path) -> None:
    amount = ("--type", "purchase_made", "--criteria", "min_amount=100")
    created = goals("create", WORKFLOW, *amount, "--json")
    assert created.err.startswith("warning: `min_amount` without `currency` ")
    assert "warning" not in created.out
    currency = goals("update", created.json["id"], "--criteria", "min_amount=100", "--criteria", "currency=eur")
    assert (currency.code, currency.err) == (0, "")
    file = tmp_path / "goals.json"
    entry = {"goal_type": "purchase_made", "criteria": {"min_amount": 5}}
    file.write_text(json.dumps({"workflows": [{"workflow_id": "another", "goals": [entry]}]}))
    assert goals("apply", file, "--dry-run").err.startswith("warning: another: `min_amount` without `currency` ")


async def test_a_value_that_was_never_seen_is_a_warning_of_create_update_and_apply(
    with_database: shells.Shell, pool: AsyncEngine
) -> None:
    now = datetime.now(UTC)
    numbers = {(TENANT, "frm-12"): 412}
    counted = seen_values.CountsOfField("form.submitted", "form_id", now.date(), now, now, numbers, {})
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        await seen_values.add(connection, [counted])

    def run(command: str, *words: str) -> forker.Outcome:
        return with_database("goals", command, "--tenant", TENANT, *words)

    def applied(form_id: str) -> forker.Outcome:
        goal = {"goal_type": "form_submitted", "criteria": {"form_id": form_id}}
        text = json.dumps({"workflows": [{"workflow_id": f"of {form_id}", "goals": [goal]}]})
        (with_database.folder / "goals.json").write_text(text, encoding="utf-8")
        return run("apply", "goals.json")

    unseen = "form `frm_12` was never seen; nearest: `frm-12`, 412 times in 7 days\n"
    created = run("create", WORKFLOW, "--type", "form_submitted", "--criteria", "form_id=frm_12", "--json")
    assert (created.code, created.err) == (0, f"warning: {unseen}")
    named = run("update", json.loads(created.out)["id"], "--name", "Signed up")
    assert (named.code, named.err) == (0, f"warning: {unseen}")
    assert (applied("frm_12").code, applied("frm_13").err) == (
        0,
        f"warning: of frm_13: {unseen.replace('12`', '13`', 1)}",
    )
    assert applied("frm-12").err == ""


def test_settings_are_given_as_pairs_too(goals: Goals) -> None:
    pairs = ("tag_id=t1", "times=3", "within=P4W", "reversals=keep")
    options = [word for pair in pairs for word in ("--criteria", pair)]
    made = goals("create", WORKFLOW, "--type", "tag_added", *options, "--json").json
    assert made["criteria"] == {"tag_id": "t1", "times": 3, "within": "P28D", "reversals": "keep"}
    refused = goals("create", WORKFLOW, "--type", "tag_added", *options[:2], "--criteria", "times=three")
    assert refused.code == 1
    assert '`times` must be a whole number from 2 to 1,000, such as 3; got "three"' in refused.err


def test_settings_of_a_file_are_the_same_however_they_are_written(goals: Goals, tmp_path: Path) -> None:
    written = [
        {"form_id": ["f2", "f1"], "times": 2, "within": "P2W"},
        {"form_id": ["f1", "f2", "f1"], "times": 2, "within": "PT336H", "reversals": "revoke", "deadline": None},
    ]
    file, told = tmp_path / "goals.json", []
    for given in written:
        entry = {"goal_type": "form_submitted", "criteria": given}
        file.write_text(json.dumps({"workflows": [{"workflow_id": WORKFLOW, "goals": [entry]}]}))
        told += goals("apply", file, "--json").json
    assert [step["action"] for step in told] == ["created", "unchanged"]
    (goal,) = goals("list", "--json").json
    assert goal["criteria"] == {"form_id": ["f1", "f2"], "times": 2, "within": "P14D"}


def test_a_file_that_needs_tracking_is_refused_where_there_is_none(
    goals: Goals, database_url: str, tmp_path: Path
) -> None:
    support.run(support.execute(database_url, "INSERT INTO installation VALUES (1, false)"))
    limited = tag("t2") | {"criteria": {"tag_id": "t2", "deadline": "P30D"}}
    file = tmp_path / "goals.json"
    file.write_text(json.dumps({"workflows": [{"workflow_id": WORKFLOW, "goals": [tag("t1"), limited]}]}))
    for options in ([], ["--dry-run"]):
        refused = goals("apply", file, *options)
        assert refused.code == 1
        assert "/workflows/0/goals/1/criteria/deadline: `deadline` counts from the enrollment" in refused.err
    assert goals("list", "--json").json == []


def test_a_goal_is_changed_paused_resumed_and_deleted(goals: Goals) -> None:
    goal_id = create(goals)["id"]
    steps = [
        ("update", ["--name", "Signed", "--criteria", "tag_name=Signed"]),
        ("pause", []),
        ("resume", ["--if-version", "3"]),
        ("update", ["--no-name"]),
    ]
    shown = [goals(command, goal_id, "--json", *options).json for command, options in steps]
    assert [goal["version"] for goal in shown] == [2, 3, 4, 5]
    assert [goal["name"] for goal in shown] == ["Signed", "Signed", "Signed", None]
    assert [goal["is_active"] for goal in shown] == [True, False, True, True]
    assert goals("delete", goal_id).code == 0
    assert goals("get", goal_id).code == 1
    (deleted,) = goals("list", "--include-deleted", "--json").json
    assert (deleted["id"], deleted["version"], deleted["updated_by"]) == (goal_id, 6, "cli:ann")


def test_a_logic_is_set_once(goals: Goals) -> None:
    assert goals("set-logic", WORKFLOW, "all").out == f"{WORKFLOW}: all\n"
    assert goals("set-logic", WORKFLOW, "all").out == f"{WORKFLOW}: all already\n"
    assert goals("set-logic", WORKFLOW, "some").code == 1


# --- exit codes ---


def test_a_refused_change_exits_with_1_and_the_reason_on_stderr(goals: Goals) -> None:
    goal_id = create(goals)["id"]
    refused = {
        f"Goal {UNKNOWN} not found": goals("get", UNKNOWN),
        f"Goal {goal_id} not found": goals("pause", goal_id, tenant="other"),
        "same goal_type and criteria": goals("create", WORKFLOW, "--type", "tag_added", "--criteria", "tag_id=t1"),
        "must be one of tag_added": goals("create", WORKFLOW, "--type", "sale", "--criteria", "tag_id=t1"),
        "is not a criterion of tag_added": goals("update", goal_id, "--criteria", "form_id=f"),
        "`tag_name` must be text": goals("update", goal_id, "--criteria", "tag_name=a", "--criteria", "tag_name=b"),
        "at version 1, not 7": goals("delete", goal_id, "--if-version", 7),
    }
    for sentence, outcome in refused.items():
        assert (outcome.code, outcome.out) == (1, "")
        assert sentence in outcome.err


def test_the_maximum_is_a_setting(goals: Goals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOALWORKER_GOALS__MAX_PER_WORKFLOW", "1")
    create(goals)
    refused = goals("create", WORKFLOW, "--type", "form_submitted", "--criteria", "form_id=f")
    assert refused.code == 1
    assert "Maximum of 1 goals per workflow exceeded. " in refused.err
    assert "GOALWORKER_GOALS__MAX_PER_WORKFLOW" in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ["get", "no-uuid"],
        ["get"],
        ["update", UNKNOWN],
        ["update", UNKNOWN, "--name", "x", "--no-name"],
        ["create", WORKFLOW, "--type", "tag_added"],
        ["create", WORKFLOW, "--type", "tag_added", "--criteria", "tag_id"],
        ["create", WORKFLOW, "--type", "tag_added", "--criteria", '{"tag_id": NaN}'],
        ["create", WORKFLOW, "--type", "tag_added", "--criteria", '{"a":' * 100_000],
        ["create", "w" * 256, "--type", "tag_added", "--criteria", "tag_id=t1"],
        ["apply", "no-such-file"],
    ],
)
def test_wrong_usage_exits_with_2(offline: Goals, words: list[str]) -> None:
    assert offline(*words).code == 2


def test_a_missing_unreachable_or_outdated_database_exits_with_3_4_and_5(
    goals: Goals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    support.run(support.execute(database_url, "DROP TABLE alembic_version"))
    behind = goals("list")
    assert behind.code == 5
    assert f"needs {migrations.head()}: run `goalworker db upgrade`" in behind.err
    monkeypatch.setenv("GOALWORKER_DATABASE__URL", NOWHERE)
    assert goals("list").code == 4
    monkeypatch.delenv("GOALWORKER_DATABASE__URL")
    assert goals("list").code == 3


# --- apply ---


def tag(tag_id: str, **fields: Any) -> dict[str, Any]:
    return {"goal_type": "tag_added", "criteria": {"tag_id": tag_id}, **fields}


def apply(goals: Goals, *workflows: Any, options: tuple[str, ...] = ()) -> Outcome:
    Path("goals.json").write_text(json.dumps({"workflows": workflows}), encoding="utf-8")
    return goals("apply", "goals.json", *options)


def actions(outcome: Outcome) -> list[tuple[str, str | None]]:
    return [(step["action"], (step["criteria"] or {}).get("tag_id")) for step in outcome.json]


def test_a_file_is_applied_and_a_second_time_changes_nothing(goals: Goals) -> None:
    wanted = {"workflow_id": WORKFLOW, "logic": "all", "goals": [tag("t1", name="One"), tag("t2")]}
    first, again = (apply(goals, wanted, options=("--json",)) for _ in range(2))
    assert actions(first) == [("logic_set", None), ("created", "t1"), ("created", "t2")]
    assert actions(again) == [("unchanged", None), ("unchanged", "t1"), ("unchanged", "t2")]
    assert [step["goal_id"] for step in first.json] == [step["goal_id"] for step in again.json]
    assert [goal["version"] for goal in goals("list", "--json").json] == [1, 1]


def test_apply_renames_a_goal_only_if_a_name_is_given(goals: Goals) -> None:
    for tag_id in ("t1", "t2", "t3"):
        create(goals, tag_id, "--name", "Old")
    wanted = [tag("t1", name="New"), tag("t2"), tag("t3", name=None)]
    outcome = apply(goals, {"workflow_id": WORKFLOW, "goals": wanted}, options=("--json",))
    assert actions(outcome) == [("renamed", "t1"), ("unchanged", "t2"), ("renamed", "t3")]
    assert [goal["name"] for goal in goals("list", "--json").json] == ["New", "Old", None]


def test_apply_deletes_only_with_prune_and_only_in_the_files_workflows(goals: Goals) -> None:
    create(goals, "t1")
    kept = goals("create", "another", "--type", "tag_added", "--criteria", "tag_id=t1", "--json").json
    wanted = {"workflow_id": WORKFLOW, "goals": [tag("t2")]}
    assert actions(apply(goals, wanted, options=("--json",))) == [("created", "t2")]
    pruned = apply(goals, wanted, options=("--prune", "--yes", "--json"))
    assert actions(pruned) == [("deleted", "t1"), ("unchanged", "t2")]
    assert goals("list", "another", "--json").json == [kept]


def test_prune_makes_room_before_anything_is_created(goals: Goals) -> None:
    for number in range(3):
        create(goals, f"old-{number}")
    wanted = {"workflow_id": WORKFLOW, "goals": [tag(f"new-{number}") for number in range(3)]}
    refused = apply(goals, {"workflow_id": "another", "goals": [tag("t1")]}, wanted)
    assert refused.code == 1
    assert "--prune" in refused.err
    assert goals("list", "another", "--json").json == []
    assert apply(goals, wanted, options=("--prune", "--yes")).code == 0
    assert {goal["criteria"]["tag_id"] for goal in goals("list", "--json").json} == {"new-0", "new-1", "new-2"}


def test_a_dry_run_shows_what_apply_would_do_and_changes_nothing(goals: Goals) -> None:
    old = create(goals, "t1")
    wanted = {"workflow_id": WORKFLOW, "logic": "all", "goals": [tag("t2")]}
    planned = apply(goals, wanted, options=("--prune", "--dry-run", "--json"))
    assert actions(planned) == [("logic_set", None), ("deleted", "t1"), ("created", "t2")]
    assert apply(goals, wanted, options=("--prune", "--dry-run")).out.endswith("this was a dry run\n")
    assert goals("list", "--json").json == [old]
    assert goals("set-logic", WORKFLOW, "any").out == f"{WORKFLOW}: any already\n"


def test_prune_deletes_nothing_without_a_terminal(goals: Goals) -> None:
    old = create(goals, "t1")
    refused = apply(goals, {"workflow_id": WORKFLOW, "goals": [tag("t2")]}, options=("--prune",))
    assert (refused.code, refused.out) == (2, "")
    assert "--prune would delete 1 goal" in refused.err
    assert "give --yes" in refused.err
    assert goals("list", "--json").json == [old]
    nothing_to_delete = apply(goals, {"workflow_id": WORKFLOW, "goals": [tag("t1")]}, options=("--prune",))
    assert nothing_to_delete.code == 0


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, ["t1"]), ("y", 0, ["t2"])])
def test_prune_asks_at_a_terminal(
    goals: Goals, with_database: shells.Shell, answer: str, code: int, left: list[str]
) -> None:
    create(goals, "t1")
    wanted = {"workflows": [{"workflow_id": WORKFLOW, "goals": [tag("t2")]}]}
    (with_database.folder / "goals.json").write_text(json.dumps(wanted), encoding="utf-8")
    outcome = with_database.at_terminal(f"{answer}\n", "goals", "apply", "--tenant", TENANT, "--prune", "goals.json")
    assert (outcome.code, [goal["criteria"]["tag_id"] for goal in goals("list", "--json").json]) == (code, left)
    assert 'onboarding: tag_added {"tag_id":"t1"}\nDelete 1 goal for good?' in outcome.err


def test_declining_prune_with_json_logs_is_a_line_of_json(goals: Goals, with_database: shells.Shell) -> None:
    create(goals, "t1")
    wanted = {"workflows": [{"workflow_id": WORKFLOW, "goals": []}]}
    (with_database.folder / "goals.json").write_text(json.dumps(wanted), encoding="utf-8")
    shell = with_database.set({"GOALWORKER_LOG__FORMAT": "json"})
    outcome = shell.at_terminal("n\n", "goals", "apply", "--tenant", TENANT, "--prune", "goals.json")
    last = json.loads(outcome.err[outcome.err.rindex('{"timestamp') :])  # after the question
    assert (outcome.code, last["event"], last["error"]) == (1, "ended", "aborted, nothing was changed")
    assert [goal["criteria"]["tag_id"] for goal in goals("list", "--json").json] == ["t1"]


async def test_prune_leaves_a_goal_that_was_changed_since_it_was_shown(pool: AsyncEngine) -> None:
    draft = goal_store.parse_draft(tag("t1"))
    goal = await goal_store.create(pool, TENANT, WORKFLOW, draft, actor="test", maximum=3)
    (step,) = await goal_file.steps(pool, TENANT, goal_file.Workflow(WORKFLOW), maximum=3, prune=True)
    changed = await goal_store.update(pool, TENANT, goal.id, {"criteria": {"tag_id": "t9"}}, actor="somebody")
    with pytest.raises(goal_store.StaleGoalError):
        await goal_file.take_step(pool, TENANT, step, actor="test", maximum=3)
    assert await goal_store.get(pool, TENANT, goal.id) == changed


def test_apply_reads_standard_input(goals: Goals, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"workflows": [{"workflow_id": WORKFLOW, "goals": [tag("t1")]}]}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(wanted).encode())))
    outcome = goals("apply", "-")
    assert outcome.code == 0
    assert "created" in outcome.out


@pytest.mark.parametrize(
    ("workflows", "pointer"),
    [
        ({}, "/: "),
        (["w"], "/workflows/1: "),
        ([{"workflow_id": "w"}], "/workflows/1: "),
        ([{"workflow_id": "", "goals": []}], "/workflows/1/workflow_id: "),
        ([{"workflow_id": "w", "goals": [], "logic": "some"}], "/workflows/1/logic: "),
        ([{"workflow_id": "w", "goals": [], "logics": "any"}], "/workflows/1/logics: "),
        ([{"workflow_id": "w", "goals": [1]}], "/workflows/1/goals/0: "),
        ([{"workflow_id": "w", "goals": [tag("t1"), tag("t1", name="again")]}], "/workflows/1/goals: two goals"),
        (
            [{"workflow_id": "w", "goals": [tag(str(number)) for number in range(4)]}],
            "/workflows/1/goals: Maximum of 3",
        ),
        ([{"workflow_id": "w", "goals": [tag("t1", extra=1)]}], "/workflows/1/goals/0/extra: "),
        ([{"workflow_id": "w", "goals": [tag("")]}], "/workflows/1/goals/0/criteria/tag_id: "),
        (
            [{"workflow_id": "w", "goals": [tag("t1") | {"criteria": {"tag_id": "t1", "within": "P1M", "times": 2}}]}],
            "/workflows/1/goals/0/criteria/within: ",
        ),
        (
            [{"workflow_id": "w", "goals": [tag("t1") | {"criteria": {"tag_id": ["t"] * 51}}]}],
            "/workflows/1/goals/0/criteria/tag_id: ",
        ),
        ([{"workflow_id": WORKFLOW, "goals": []}], "/workflows: "),
    ],
)
def test_a_file_with_a_fault_anywhere_is_refused_before_the_database_is_asked(
    offline: Goals, workflows: Any, pointer: str
) -> None:
    right = {"workflow_id": WORKFLOW, "logic": "all", "goals": [tag("t1")]}
    Path("goals.json").write_text(
        json.dumps({"workflows": [right, *workflows] if workflows else workflows}), encoding="utf-8"
    )
    refused = offline("apply", "goals.json")
    assert (refused.code, refused.out) == (1, "")
    assert f"\n  {pointer}" in refused.err


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[NaN]", b'"\xed\xa0\x80"'])
def test_a_file_that_cannot_be_parsed_is_refused_with_a_sentence(offline: Goals, text: bytes) -> None:
    Path("goals.json").write_bytes(text)
    refused = offline("apply", "goals.json")
    assert refused.code == 1
    assert "nothing was changed" in refused.err
