"""Errors of the database: transient or permanent, and a sentence for each with its remedy."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
import sqlalchemy as sa

from goalworker import outages
from goalworker.config import values
from goalworker.errors import DependencyError, GoalworkerError, RefusedError, SettingsError

# --- classes of errors ---


class PartitionMadeError(Exception):
    """A partition was made while a statement ran, which wanted it and did not know it yet."""


# Retried: a server comes back, and the loser of a race wins the next one (hazards 15, 18).
_TRANSIENT: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,  # 53: disk full, too many connections
    asyncpg.OperatorInterventionError,  # 57: shutdown, statement timeout
    asyncpg.TransactionRollbackError,  # 40: deadlock, serialization
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # 25006: failed over
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,  # 58: I/O error
    asyncpg.exceptions.TargetServerAttributeNotMatched,
    sa.exc.TimeoutError,
    sa.exc.InterfaceError,
    sa.exc.OperationalError,
    PartitionMadeError,
)

# Raised for the content of a record: the batch is halved to find the record, which is dead-lettered (hazard 17).
UNSTORABLE: Final = (
    asyncpg.DataError,
    asyncpg.CheckViolationError,
    asyncpg.ProgramLimitExceededError,
)

# A right or a table is missing, which somebody has to grant or create: a retry changes nothing.
_NOT_ALLOWED: Final = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
)
_LOGIN_REFUSED: Final = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)

_READ_ONLY: Final = (asyncpg.ReadOnlySQLTransactionError, asyncpg.exceptions.TargetServerAttributeNotMatched)

_SLOW: Final = (TimeoutError, sa.exc.TimeoutError, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
_ANSWERS: Final = (asyncpg.PostgresError, asyncpg.exceptions.TargetServerAttributeNotMatched, ssl.SSLError)
# Sent by a server that is shutting down or starting.
_NO_ANSWERS: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)


def is_transient(error: BaseException) -> bool:
    """Say whether an error passes by itself, so that the same work should be retried."""
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        cause = error.orig.__cause__
        return (
            error.connection_invalidated or isinstance(error, _TRANSIENT) or (cause is not None and is_transient(cause))
        )
    return isinstance(error, _TRANSIENT)


def is_permanent(error: BaseException) -> bool:
    """Say whether the server refuses a login, a database or a right, which a retry does not change."""
    return isinstance(driver_error(error), (RefusedError, *_NOT_ALLOWED, *_LOGIN_REFUSED))


def is_login_refused(error: BaseException) -> bool:
    """Say whether the server refuses our credentials, or we its certificate: a new process may have newer secrets."""
    return isinstance(driver_error(error), (*_LOGIN_REFUSED, ssl.SSLError))


def is_unavailable(error: BaseException) -> bool:
    """Say whether a running service retries the same work; its probe gives up when a login is refused for long."""
    return is_transient(error) or is_login_refused(error)


def driver_error(error: BaseException) -> BaseException:
    """Return the error of the driver, which SQLAlchemy wraps twice."""
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def _is_answer(cause: BaseException) -> bool:
    """Say whether an error is the answer of a running server, or our objection to that answer."""
    return isinstance(cause, _ANSWERS) and not isinstance(cause, _NO_ANSWERS)


@contextmanager
def explain_errors(url: str, *, permanent_only: bool = False) -> Iterator[None]:
    """Raise the database's errors as one that names the database, the reason and the remedy; any other error passes.

    permanent_only: for code that retries transient errors itself.
    """
    try:
        yield
    except GoalworkerError:
        raise
    except Exception as error:
        if is_permanent(error) or (not permanent_only and is_transient(error)):
            raise explain(url, error) from error
        raise


# --- sentences about errors ---

_TRY_DOCTOR: Final = "`goalworker doctor` looks at each part."


def explain(url: str, error: BaseException) -> GoalworkerError:
    """Return an error that says which database cannot be used, why, and what to do, without its password."""
    cause = driver_error(error)
    if isinstance(cause, GoalworkerError):
        return cause
    problem = f"the database at {mask_password(url)} cannot be used: {reason(cause)}."
    if isinstance(cause, asyncpg.exceptions.ClientConfigurationError):
        return SettingsError(f"{problem} Correct GOALWORKER_DATABASE__URL.")
    kind = RefusedError if isinstance(cause, _NOT_ALLOWED) else DependencyError
    return kind(f"{problem} {_remedy(cause)}", hint=_TRY_DOCTOR)


def summarize(url: str, error: BaseException) -> str:
    """Return one sentence without the remedy: which database cannot be used, and why."""
    cause = driver_error(error)
    if isinstance(cause, GoalworkerError):
        return cause.sentence
    problem = "answers, but cannot be used" if _is_answer(cause) else "cannot be reached"
    return f"the database at {mask_password(url)} {problem}: {reason(cause)}"


def missing_role(error: BaseException) -> RefusedError | None:
    """Return the error for a server without the roles of worker and API, None for any other error."""
    text = str(error)
    if not (isinstance(error, asyncpg.InvalidParameterValueError) and text.startswith("role ")):
        return None
    return RefusedError(
        f"the database cannot be used: {text}. Run `goalworker db upgrade`, or let an administrator run what "
        "`goalworker db roles` prints, as after restoring a database on another server.",
        hint=_TRY_DOCTOR,
    )


def missing_schema(where: str, search_path: str) -> RefusedError:
    """Return the error for a login that has no schema in its search path."""
    return RefusedError(
        f"the database {where} cannot be used: its search_path ({search_path or 'which is empty'}) has no schema that "
        f"this user may use. {_SEARCH_PATH}",
        hint=_TRY_DOCTOR,
    )


def kind_of_outage(error: BaseException) -> outages.Kind:
    """Return whether the server refuses us, or is away for any other reason."""
    return "refused" if is_permanent(error) or is_login_refused(error) else "away"


def condition(error: BaseException) -> str:
    """Return the condition of the database, in a clause that API clients may see."""
    cause = driver_error(error)
    if isinstance(cause, _SLOW):
        return "did not answer in time"
    return "cannot be used now" if _is_answer(cause) else "cannot be reached"


def reason(error: BaseException) -> str:
    """Return why the database cannot be used, in a clause without the content of rows."""
    cause = driver_error(error)
    if isinstance(cause, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(cause, _READ_ONLY):
        return "it is read-only"
    if isinstance(cause, TimeoutError) and not str(cause):
        return "no answer in time"
    return str(cause).partition("\n")[0].rstrip(".") or type(cause).__name__  # later lines quote rows


_DENIED: Final = re.compile(r"permission denied (?:for|to) (database|schema|table|sequence|function|set role)\b")
_SEARCH_PATH: Final = (
    "Let an administrator run ALTER ROLE ... SET search_path = public, and GRANT USAGE ON SCHEMA public TO this user, "
    "goalworker_worker and goalworker_api; for `goalworker db upgrade`, also CREATE to this user."
)


def _remedy(cause: BaseException) -> str:
    if isinstance(cause, asyncpg.InsufficientPrivilegeError):
        return _grant(str(cause))
    return next((remedy for kind, remedy in _REMEDIES if isinstance(cause, kind)), _OTHERWISE)


def _grant(denied: str) -> str:
    match = _DENIED.search(denied)
    return _GRANTS.get(match[1] if match else "", _BY_OWNER)


_BY_OWNER: Final = (
    "Where this user lacks the roles, let an administrator run what `goalworker db roles` prints; where the roles lost "
    "this right, let the tables' owner GRANT it again."
)
_GRANTS: Final = {
    "database": "Let an administrator GRANT CONNECT on it to this user.",
    "schema": _SEARCH_PATH,
    "set role": "Use the login that has this role, or let an administrator run what `goalworker db roles` prints.",
}
_OTHERWISE: Final = "Is it running, and is GOALWORKER_DATABASE__URL right?"

# The first kind that matches an error has its remedy.
_REMEDIES: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...]] = (
    (
        ssl.SSLCertVerificationError,
        "Is sslrootcert in GOALWORKER_DATABASE__URL the server's authority, and its host in the certificate?",
    ),
    (asyncpg.InvalidPasswordError, "Are user and password in GOALWORKER_DATABASE__URL right?"),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "Is the user in GOALWORKER_DATABASE__URL right, and does the server's pg_hba.conf let it in from here?",
    ),
    (asyncpg.InvalidCatalogNameError, "Create it, or correct its name in GOALWORKER_DATABASE__URL."),
    ((asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError), _SEARCH_PATH),
    (
        _READ_ONLY,
        "Name the primary in GOALWORKER_DATABASE__URL, not a standby; if it is the primary, look at "
        "default_transaction_read_only.",
    ),
    (
        asyncpg.TooManyConnectionsError,
        "Raise max_connections or the user's limit, or lower GOALWORKER_DATABASE__POOL_SIZE.",
    ),
    (asyncpg.CannotConnectNowError, "It is starting or shutting down: try again in a moment."),
    (asyncpg.DiskFullError, "Make room on its disk."),
    (
        asyncpg.LockNotAvailableError,
        "Something else holds the lock, such as a VACUUM or a goal that is being written: try again.",
    ),
    (
        asyncpg.QueryCanceledError,
        "Something slows it down or holds a lock: try again, or raise GOALWORKER_DATABASE__STATEMENT_TIMEOUT_SECONDS.",
    ),
)


def mask_password(url: str) -> str:
    """Return a database URL without its password."""
    return values.masked_url(url)
