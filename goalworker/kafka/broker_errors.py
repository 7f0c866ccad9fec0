"""Errors of the broker: which are transient, which are permanent, and a sentence with a remedy for each."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiokafka import errors as kafka_errors

from goalworker import config
from goalworker.errors import DependencyError, GoalworkerError, RefusedError, SettingsError
from goalworker.kafka import broker_connections

_TRY_DOCTOR: Final = "`goalworker doctor` looks at each part."
# aiokafka raises these whatever kept it from connecting; the log of connections has the cause.
_VAGUE: Final = (kafka_errors.KafkaConnectionError, kafka_errors.NodeNotReadyError, TimeoutError)
# The broker answers and lacks an ACL that allows the request: an operator must add it.
_NOT_ALLOWED: Final = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
)
_LOGIN_REFUSED: Final = (
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.AuthenticationFailedError,
    kafka_errors.AuthenticationMethodNotSupported,
    ssl.SSLError,
)


def explain(settings: config.Settings, error: BaseException) -> GoalworkerError:
    """Return an error whose sentence says which broker cannot be used, why, and what to do."""
    where = f"Kafka at {settings.bootstrap_servers()}"
    if isinstance(error, kafka_errors.InvalidSessionTimeoutError):
        return SettingsError(f"{where} refuses {_session_timeout(settings)}")
    advertised = _unreachable_advertised(settings, error)
    if advertised is not None:
        return DependencyError(f"{where} {_advertised(advertised)}", hint=_TRY_DOCTOR)
    cause = cause_of(error)
    kind = RefusedError if isinstance(cause, _NOT_ALLOWED) else DependencyError
    return kind(f"{where} cannot be used: {_reason(settings, cause)}. {_remedy(settings, cause)}", hint=_TRY_DOCTOR)


def summarize(settings: config.Settings, error: BaseException) -> str:
    """Return one sentence that says which broker cannot be used and why, without the remedy."""
    where = f"Kafka at {settings.bootstrap_servers()}"
    advertised = _unreachable_advertised(settings, error)
    if advertised is not None:
        return f"{where} answers, but the broker that it names, {_at(advertised)}, cannot be reached"
    problem = "answers, but cannot be used" if is_login_refused(error) else "cannot be reached"
    return f"{where} {problem}: {_reason(settings, cause_of(error))}"


def describe_unjoined(settings: config.Settings, since: float, now: float) -> str:
    """Return one sentence that says why the group has not been joined since a moment of the monotonic clock."""
    error = broker_connections.LAST_GROUP_ERROR.since(since)
    reason = "its members do not finish dividing the partitions" if error is None else _reason(settings, error)
    return (
        f"Kafka at {settings.bootstrap_servers()} answers, but the consumer group {settings.kafka.group_id} has not "
        f"been joined for {now - since:.0f} s: {reason}"
    )


def cause_of(error: BaseException) -> BaseException:
    """Return the cause of the last failed connection if the error only says that it failed, else the error."""
    failure = broker_connections.CONNECTION_LOG.last_failure
    is_vague = isinstance(error, _VAGUE) or type(error) is kafka_errors.KafkaError
    return failure.error if is_vague and failure is not None and failure.error is not None else error


def is_login_refused(error: BaseException) -> bool:
    """Say whether the broker refuses our credentials, or we its certificate; retrying does not help."""
    return isinstance(cause_of(error), _LOGIN_REFUSED)


def names_of(refused: kafka_errors.KafkaError) -> str:
    """Return the names of the topics or the group that a refusal is about; aiokafka gives one or a collection."""
    names = refused.args[0] if refused.args else "a part of it"
    return names if isinstance(names, str) else ", ".join(sorted(map(str, names)))


def _reason(settings: config.Settings, cause: BaseException) -> str:
    match cause:
        case kafka_errors.TopicAuthorizationFailedError():
            return f"{names_of(cause)} may not be used by this user"
        case kafka_errors.GroupAuthorizationFailedError():
            return f"the group {names_of(cause)} may not be used by this user"
        case kafka_errors.ClusterAuthorizationFailedError():
            return "this user may neither write to a topic nor create one"
        case kafka_errors.InconsistentGroupProtocolError():
            return (
                f"the consumer group {settings.kafka.group_id} has members that are not workers of goalworker: they "
                "divide partitions in another way"
            )
        case kafka_errors.InvalidGroupIdError():
            return f"it does not accept {settings.kafka.group_id!r} as the name of a consumer group"
        case _:
            return _plain_reason(cause)


def _plain_reason(cause: BaseException) -> str:
    match cause:
        case TimeoutError() if not str(cause):
            return "no answer in time"
        case ConnectionRefusedError():
            return "the connection was refused"
        case socket.gaierror():
            return "its name cannot be resolved"
        case _:
            return str(cause).partition("\n")[0].rstrip(".") or type(cause).__name__


def _remedy(settings: config.Settings, cause: BaseException) -> str:
    protocol = settings.kafka.security_protocol
    otherwise = f"Is it running, and does it speak {protocol} there (GOALWORKER_KAFKA__SECURITY_PROTOCOL)?"
    return next((remedy for kinds, remedy in _REMEDIES if isinstance(cause, kinds)), otherwise)


# The first entry that matches an error has its remedy.
_REMEDIES: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    (
        (ssl.SSLCertVerificationError,),
        "Is GOALWORKER_KAFKA__SSL_CAFILE the authority of the brokers' certificates, and is each host in "
        "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS and in the brokers' advertised.listeners in them?",
    ),
    (
        (kafka_errors.SaslAuthenticationFailed, kafka_errors.UnsupportedSaslMechanismError),
        "Are GOALWORKER_KAFKA__SASL_USERNAME, GOALWORKER_KAFKA__SASL_PASSWORD and "
        "GOALWORKER_KAFKA__SASL_MECHANISM right?",
    ),
    (
        (kafka_errors.TopicAuthorizationFailedError,),
        "Allow READ on topics in and the redrive topic, WRITE on topics out and dead letters.",
    ),
    ((kafka_errors.GroupAuthorizationFailedError,), "Allow READ on the group."),
    (
        (kafka_errors.ClusterAuthorizationFailedError,),
        "Allow WRITE on topics out and dead letters; `goalworker topics create` needs CREATE on the cluster.",
    ),
    (
        (kafka_errors.InconsistentGroupProtocolError, kafka_errors.InvalidGroupIdError),
        "Set GOALWORKER_KAFKA__GROUP_ID to a group that only workers of this installation use.",
    ),
)


def _session_timeout(settings: config.Settings) -> str:
    return (
        f"a session timeout of {settings.kafka.session_timeout_seconds} s: it is outside "
        "group.min.session.timeout.ms and group.max.session.timeout.ms of the brokers. Set "
        "GOALWORKER_KAFKA__SESSION_TIMEOUT_SECONDS to a value between them; `goalworker doctor` shows them."
    )


# --- a bootstrap server that answers, and advertises a broker that cannot be reached ---


def _unreachable_advertised(settings: config.Settings, error: BaseException) -> broker_connections.Attempt | None:
    if error is cause_of(error) or is_login_refused(error):
        return None  # the error is not about an address
    bootstrap = {_address(server) for server in settings.bootstrap_servers().split(",")}
    return broker_connections.CONNECTION_LOG.unreachable_advertised(bootstrap)


def _address(server: str) -> broker_connections.Address:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


def _at(attempt: broker_connections.Attempt) -> str:
    host, port = attempt.address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _advertised(attempt: broker_connections.Attempt) -> str:
    reason = _plain_reason(attempt.error or TimeoutError())
    return (
        f"answers, and names {_at(attempt)} as the broker to talk to, which cannot be reached from here: {reason}. If "
        "that broker is running, set advertised.listeners in its configuration to an address that clients can reach; "
        "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS is right."
    )


# --- transient or permanent ---


class NotAcknowledgedError(Exception):
    """The broker did not acknowledge every record in time: they may arrive or not, and must be sent again."""


# Joining the group fails with these until an operator changes our settings, or those of the other members.
JOIN_REFUSED: Final = (
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.InconsistentGroupProtocolError,
    kafka_errors.InvalidGroupIdError,
)
# Retrying does not help: an operator must change an ACL or a setting.
_PERMANENT: Final = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.AuthenticationFailedError,
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.InvalidTopicError,
    *JOIN_REFUSED,
)


def is_transient(error: BaseException) -> bool:
    """Say whether an error passes by itself, so that a retry may succeed."""
    return isinstance(error, NotAcknowledgedError | kafka_errors.KafkaError | OSError) and not is_permanent(error)


def is_permanent(error: BaseException) -> bool:
    """Say whether the broker refuses the request however often it is sent."""
    return isinstance(error, _PERMANENT)


def is_broker_error(error: BaseException) -> bool:
    """Say whether an error comes from aiokafka, transient or permanent."""
    return isinstance(error, NotAcknowledgedError | kafka_errors.KafkaError)


@contextmanager
def explain_errors(settings: config.Settings, *, permanent_only: bool = False) -> Iterator[None]:
    """Raise the broker's errors as one that names the broker, the reason and the remedy; any other error passes.

    permanent_only: for code that retries transient errors itself.
    """
    try:
        yield
    except Exception as error:
        if is_permanent(error) or (not permanent_only and is_transient(error)):
            raise explain(settings, error) from error
        raise
