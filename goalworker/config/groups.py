"""Every setting, in groups, with its default, bounds and meaning (contract section 6)."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from goalworker.config import contradictions, values
from goalworker.domain.cells import ALL_BUCKETS
from goalworker.domain.events import GOAL_TYPE_TABLE, LIFECYCLE_TYPES

OPS_PORTS: Final[Mapping[str, int]] = {"run": 9464, "api": 9465, "insight": 9466}

# A field with `repr=False` is a URL that may hold a password: it is never quoted, and shown with the password masked.


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Database(_Group):
    """PostgreSQL."""

    url: values.DatabaseUrl | None = Field(
        None,
        repr=False,
        description="URL of PostgreSQL with user and password; every command that uses the database needs it",
        examples=["postgresql://goalworker:secret@127.0.0.1:5432/goalworker"],
    )
    pool_size: int = Field(4, ge=1, le=100, description="Maximum number of connections of a process")
    statement_timeout_seconds: int = Field(30, ge=1, le=3_600, description="Time after which a statement is cancelled")


class Kafka(_Group):
    """Kafka's brokers, and the login to them."""

    bootstrap_servers: values.Servers | None = Field(
        None,
        description="Brokers to ask first, host:port separated by commas; every command that uses Kafka needs them",
        examples=["127.0.0.1:9092"],
    )
    group_id: values.Text = Field("goalworker", description="Consumer group; workers of one installation share it")
    client_id: values.Text = Field("goalworker", description="Prefix of every client's id")
    session_timeout_seconds: int = Field(
        45,
        ge=1,
        le=1_800,
        description="Silence after which a worker loses its partitions; must be within the brokers' bounds for groups",
    )
    security_protocol: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], values.UPPER] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], values.UPPER] | None = Field(
        None,
        description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
        json_schema_extra={"shown_default": "PLAIN where the protocol is SASL_..."},
        examples=["SCRAM-SHA-512"],
    )
    sasl_username: values.Text | None = Field(None, description="User at the broker", examples=["goalworker"])
    sasl_password: SecretStr | None = Field(None, description="Password of that user", examples=["secret"])
    ssl_cafile: Path | None = Field(
        None,
        description="Certificate authorities (PEM) that the brokers' certificates are checked against",
        json_schema_extra={"shown_default": "the system's"},
        examples=["/etc/kafka/ca.pem"],
    )
    ssl_certfile: Path | None = Field(
        None, description="Client certificate (PEM), for mutual TLS", examples=["/etc/kafka/client.pem"]
    )
    ssl_keyfile: Path | None = Field(
        None, description="Private key (PEM) of that certificate", examples=["/etc/kafka/client.key"]
    )

    @property
    def insight_group_id(self) -> str:
        """Consumer group of `insight`, which takes no partition from a worker."""
        return f"{self.group_id}-insight"

    @property
    def mechanism(self) -> str | None:
        """The SASL mechanism in effect, None for a protocol without SASL."""
        return (self.sasl_mechanism or "PLAIN") if self.security_protocol.startswith("SASL_") else None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        return _refuse(self, *contradictions.of_kafka(self))


class Topics(_Group):
    """Names of the topics in and out (contract sections 2 and 4)."""

    tag_added: values.Topic = Field("tag-added", description="In: a contact was tagged")
    payment_completed: values.Topic = Field(
        "payment-completed", description="In: a contact paid, or a payment was refunded or failed"
    )
    appointment_booked: values.Topic = Field(
        "appointment-booked", description="In: a contact booked an appointment, or one was cancelled"
    )
    form_submitted: values.Topic = Field(
        "form-submitted", description="In: a contact submitted a form, or a submission was rejected"
    )
    stage_changed: values.Topic = Field("stage-changed", description="In: a contact reached a stage of a pipeline")
    workflow_lifecycle: values.Topic = Field("workflow-lifecycle", description="In: enrollments and workflow states")
    goal_achieved: values.Topic = Field("goal-achieved", description="Out: goals achieved and revoked")
    workflow_exit: values.Topic = Field("workflow-exit", description="Out: the commands to stop an enrollment")
    goal_configured: values.Topic = Field("goal-configured", description="Out: goals created, updated and deleted")
    dead_letters: values.Topic = Field("goalworker.dlq", description="Out: records that cannot be used, byte for byte")
    redrive: values.Topic = Field("goalworker.redrive", description="Dead letters sent again, which only `run` reads")

    @property
    def goal_inputs(self) -> dict[str, str]:
        """The five goal topics: each name with its setting (`tag_added`, ...)."""
        return {getattr(self, row.topic): row.topic for row in GOAL_TYPE_TABLE.values()}

    @property
    def inputs(self) -> dict[str, str]:
        """The goal topics and the lifecycle topic, each name with its setting; redrive carries records of each."""
        return {**self.goal_inputs, self.workflow_lifecycle: "workflow_lifecycle"}

    @property
    def event_types(self) -> dict[str, frozenset[str]]:
        """The CloudEvents types that each of these topics may carry, by its name (contract section 2)."""
        return {
            **{getattr(self, row.topic): row.event_types for row in GOAL_TYPE_TABLE.values()},
            self.workflow_lifecycle: LIFECYCLE_TYPES,
        }

    @property
    def outputs(self) -> tuple[str, ...]:
        """The topics that the outbox publishes to; the lifecycle topic gets the enrollments that the API takes in."""
        return (self.goal_achieved, self.workflow_exit, self.goal_configured, self.workflow_lifecycle)

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        return _refuse(self, *contradictions.of_topics(self))


class Batch(_Group):
    """Size of a batch of records."""

    max_records: int = Field(2_000, ge=1, le=10_000, description="Maximum number of records in a batch")
    max_wait_ms: int = Field(20, ge=1, le=10_000, description="Milliseconds to wait for records after an empty fetch")


class Enrollments(_Group):
    """Enrollments of contacts in workflows (contract rule 3.8)."""

    tracking: bool = Field(
        True, description="false: the engine sends no lifecycle messages, and every contact counts as enrolled"
    )


class Goals(_Group):
    """Goals of a workflow."""

    max_per_workflow: int = Field(
        3, ge=1, le=1_000, description="Maximum number of goals of a workflow, inactive ones included"
    )


class Events(_Group):
    """Incoming events."""

    lateness: values.Duration = Field(
        timedelta(days=7),
        description="Time for which hits are kept, so that late messages can correct an answer (ISO 8601)",
    )
    max_future_seconds: int = Field(
        300, ge=0, le=31_536_000, description="An event dated further ahead of the database's clock is a dead letter"
    )
    max_bytes: int = Field(
        1_048_576,
        ge=1,
        le=16_777_216,
        description="Maximum size of a record's value in bytes; a record with a larger one is a dead letter",
    )
    default_tenant: values.Text | None = Field(
        None,
        description="Tenant of events without `tenantid`; while it is unset, they are dead letters",
        examples=["acme"],
    )
    tenant_from: values.TenantFrom = Field(
        "tenantid",
        description="Source of the tenant of events without `tenantid`: tenantid, subject, header:NAME or key-prefix",
    )
    plain_json: bool = Field(
        False, description="true: JSON that is not a CloudEvent is accepted as the `data` of its topic's goal event"
    )
    plain_id: values.HeaderName = Field("id", description="Header with the id of events that PLAIN_JSON accepts")
    test_events: Annotated[Literal["ignore", "count"], values.LOWER] = Field(
        "ignore", description="ignore: events with `test: true` are skipped; count: they count like any other event"
    )
    foreign_types: Annotated[Literal["ignore", "dead_letter"], values.LOWER] = Field(
        "ignore",
        description="ignore: events of types that their topic does not list are skipped; dead_letter: they are refused",
    )


class DeadLetters(_Group):
    """Pausing of topics that have too many dead letters (contract section 4)."""

    max_ratio: float = Field(
        0.5,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of dead letters above which a topic is paused, also without the tenant that has the most",
    )
    window: int = Field(
        1_000, ge=1, le=1_000_000, description="Number of a topic's records over which the share is computed"
    )


class Retention(_Group):
    """Deletion of old data (contract rule 3.7)."""

    enrollments: values.Duration = Field(
        timedelta(days=730),
        description="Time for which an enrollment is kept after its end or exit (ISO 8601)",
        examples=["P730D"],
    )
    sweep_seconds: int = Field(60, ge=1, le=86_400, description="Pause between two sweeps of old data")


class History(_Group):
    """Events that `goalworker insight` keeps (contract section 7)."""

    retention: values.DurationOrZero = Field(
        timedelta(days=30),
        description="Time for which `insight` keeps events (ISO 8601); P0D: it keeps none, and counts values only",
    )
    keep: Annotated[Literal["enrolled", "all"], values.LOWER] = Field(
        "enrolled",
        description="enrolled: events of contacts with an enrollment are kept; all: those of every contact",
    )
    delay_seconds: int = Field(
        5,
        ge=0,
        le=300,
        description="Seconds that `insight` waits before it keeps an event, so that its enrollment is known by then",
    )


class Api(_Group):
    """The HTTP API and its tokens."""

    host: values.Text = Field("127.0.0.1", description="Address that the API listens on")
    port: values.Port = Field(8080, description="Port that the API listens on; 0 takes a free one")
    jwt_secret: SecretStr | None = Field(
        None, min_length=1, description="Secret that HS256 tokens are signed with", examples=["a-long-random-secret"]
    )
    jwks_url: values.HttpUrl | None = Field(
        None,
        repr=False,
        description="URL of the keys of RS256 and ES256 tokens; set this or JWT_SECRET",
        examples=["https://login.example.com/.well-known/jwks.json"],
    )
    jwt_issuer: values.Text | None = Field(
        None, description="`iss` that a token must have", examples=["https://login.example.com/"]
    )
    jwt_audience: values.Text | None = Field(None, description="`aud` that a token must have", examples=["goalworker"])
    console: bool = Field(True, description="false: the API serves no `/console`")
    root_path: values.RootPath = Field(
        "",
        description="Path before all addresses where a proxy serves them under one, whether or not it strips it",
        examples=["/goalworker"],
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        return _refuse(self, *contradictions.of_api(self))


class Ops(_Group):
    """The operations port: health and metrics."""

    host: values.Text = Field("127.0.0.1", description="Address that the operations port listens on")
    port: values.Port | None = Field(
        None,
        description="The operations port; 0 takes a free one",
        json_schema_extra={"shown_default": ", ".join(f"{port} (`{name}`)" for name, port in OPS_PORTS.items())},
        examples=["9464"],
    )
    stall_seconds: int = Field(
        300,
        ge=1,
        le=86_400,
        description="Time with lag and without progress after which the worker ends with exit code 6",
    )

    def port_of(self, command: Literal["run", "api", "insight"]) -> int:
        """Return the operations port of a command, 0 for any free one."""
        return OPS_PORTS[command] if self.port is None else self.port


class References(_Group):
    """Check that the ids to which goals refer exist (contract section 5)."""

    url: values.ReferenceUrl | None = Field(
        None,
        repr=False,
        description="URL that says whether a referenced id exists; while it is unset, ids are not checked",
        examples=["http://crm/internal/{kind}/{id}?tenant={tenant}"],
    )
    timeout_seconds: float = Field(
        2, gt=0, le=60, allow_inf_nan=False, description="Time after which such a request is given up"
    )


class Cell(_Group):
    """The tenants of this installation, where several with a database each share the topics (contract section 10)."""

    buckets: values.Buckets = Field(
        ALL_BUCKETS,
        description="Buckets of tenants that this installation owns: ranges and single ones, comma-separated, or none",
        examples=["0-511"],
    )
    trust_keys: bool = Field(
        False,
        description="true: a record whose key names another cell's tenant is skipped undecoded; the same in all cells",
    )


class Log(_Group):
    """Level and format of the log."""

    level: Annotated[Literal["debug", "info", "warning", "error"], values.LOWER] = Field(
        "info", description="debug, info, warning or error"
    )
    format: Annotated[Literal["json", "console"], values.LOWER] | None = Field(
        None,
        description="json or console",
        json_schema_extra={"shown_default": "json off a terminal, console on one"},
        examples=["json"],
    )


T = TypeVar("T")


def _refuse(group: T, *problems: str) -> T:
    if problems:
        raise ValueError("\n".join(problems))
    return group
