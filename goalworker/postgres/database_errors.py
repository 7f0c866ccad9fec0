"""Errors of the database: which pass by themselves, which never do, and a sentence for each with its remedy."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
import sqlalchemy as sa

from goalworker.config import values
from goalworker.errors import DependencyError, GoalworkerError, RefusedError, SettingsError

DOCTOR: Final = "`goalworker doctor` looks at each part."

# The database answers, and somebody has to grant something first: waiting and asking again change nothing.
_NOT_ALLOWED: Final = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
)
REFUSED: Final = (
    *_NOT_ALLOWED,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

_READ_ONLY: Final = (asyncpg.ReadOnlySQLTransactionError, asyncpg.exceptions.TargetServerAttributeNotMatched)
_DENIED: Final = re.compile(r"permission denied (?:for|to) (database|schema|table|sequence|function|set role)\b")


def _explain(where: str, cause: BaseException) -> GoalworkerError:
    """Return an error for a person about the database at `where`, which carries no password."""
    if isinstance(cause, GoalworkerError):
        return cause
    problem = f"the database at {where} cannot be used: {reason_of(cause)}."
    if isinstance(cause, asyncpg.exceptions.ClientConfigurationError):
        return SettingsError(f"{problem} Put GOALWORKER_DATABASE__URL right.")
    kind = RefusedError if isinstance(cause, _NOT_ALLOWED) else DependencyError
    return kind(f"{problem} {_remedy(cause)}", hint=DOCTOR)


def missing_role(error: BaseException) -> RefusedError | None:
    """Return the error for a server without the roles of worker and API, None where it is another error."""
    text = str(error)
    if not (isinstance(error, asyncpg.InvalidParameterValueError) and text.startswith("role ")):
        return None
    return RefusedError(
        f"the database cannot be used: {text}. Run `goalworker db upgrade`, or let an administrator run what "
        "`goalworker db roles` prints, as after restoring a database on another server.",
        hint=DOCTOR,
    )


def missing_schema(where: str, search_path: str) -> RefusedError:
    """Return the error for a login that sees no schema at all."""
    return RefusedError(
        f"the database {where} cannot be used: no schema that this user may use is in its search_path "
        f"({search_path or 'which is empty'}). {_SEARCH_PATH}",
        hint=DOCTOR,
    )


_SEARCH_PATH: Final = (
    "Let an administrator run ALTER ROLE ... SET search_path = public, and GRANT USAGE ON SCHEMA public TO this user, "
    "goalworker_worker and goalworker_api; for `goalworker db upgrade`, also CREATE to this user."
)


def is_answer(cause: BaseException) -> bool:
    """Say whether an error is what a server that runs has answered, or what we found wrong with its answer."""
    return isinstance(cause, _ANSWERS) and not isinstance(cause, _NO_ANSWERS)


def condition(cause: BaseException) -> str:
    """Return how a database is, in a clause that tells nothing of it."""
    if isinstance(cause, _SLOW):
        return "did not answer in time"
    return "cannot be used now" if is_answer(cause) else "cannot be reached"


_SLOW: Final = (TimeoutError, sa.exc.TimeoutError, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
_ANSWERS: Final = (asyncpg.PostgresError, asyncpg.exceptions.TargetServerAttributeNotMatched, ssl.SSLError)
# Sent by a server that ends, or is not there yet.
_NO_ANSWERS: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)


def reason_of(cause: BaseException) -> str:
    """Return why a database cannot be used, in a clause that names no row."""
    if isinstance(cause, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(cause, _READ_ONLY):
        return "it is read-only"
    if isinstance(cause, TimeoutError) and not str(cause):
        return "no answer in time"
    return str(cause).partition("\n")[0].rstrip(".") or type(cause).__name__  # the lines after the first name rows


def _remedy(cause: BaseException) -> str:
    if isinstance(cause, asyncpg.InsufficientPrivilegeError):
        return _grant(str(cause))
    return next((remedy for kind, remedy in _REMEDIES if isinstance(cause, kind)), _OTHERWISE)


def _grant(denied: str) -> str:
    found = _DENIED.search(denied)
    return _GRANTS.get(found[1] if found else "", _BY_OWNER)


_BY_OWNER: Final = (
    "Where this user lacks the roles, let an administrator run what `goalworker db roles` prints; where the roles lost "
    "this right, let the tables' owner GRANT it again."
)
_GRANTS: Final = {
    "database": "Let an administrator GRANT CONNECT on it to this user.",
    "schema": _SEARCH_PATH,
    "set role": "Let an administrator run what `goalworker db roles` prints.",
}
_OTHERWISE: Final = "Is it running, and is GOALWORKER_DATABASE__URL right?"

# The first kind that fits says what to do.
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
    (asyncpg.InvalidCatalogNameError, "Create it, or put its name in GOALWORKER_DATABASE__URL right."),
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
        "Something else holds the lock, such as a VACUUM or a goal that is being written: do it again.",
    ),
    (
        asyncpg.QueryCanceledError,
        "Something slows it down or holds a lock: try again, or raise GOALWORKER_DATABASE__STATEMENT_TIMEOUT_SECONDS.",
    ),
)


# Retried as they are: what is away comes back, and who lost a race wins the next one (hazards 15, 18).
_LATER: Final = (
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
)


# What the database refuses for its content: found by halving the batch, and dead-lettered (hazard 17).
UNSTORABLE: Final = (
    asyncpg.DataError,
    asyncpg.CheckViolationError,
    asyncpg.ProgramLimitExceededError,
)


def is_transient(error: BaseException) -> bool:
    """Say whether an error passes by itself, so that the same work is to be tried again."""
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        cause = error.orig.__cause__
        return error.connection_invalidated or isinstance(error, _LATER) or (cause is not None and is_transient(cause))
    return isinstance(error, _LATER)


_LOGIN_REFUSED: Final = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)


def is_permanent(error: BaseException) -> bool:
    """Say whether the server refuses a login, a database or a right, however often it is asked."""
    return isinstance(driver_error(error), (RefusedError, *REFUSED))


def is_login_refused(error: BaseException) -> bool:
    """Say whether the server refuses our credentials, or we its certificate: a new process with new secrets may do."""
    return isinstance(driver_error(error), (*_LOGIN_REFUSED, ssl.SSLError))


def is_unavailable(error: BaseException) -> bool:
    """Say whether a service that runs tries the same work again: how long it may be refused is decided beside it."""
    return is_transient(error) or is_login_refused(error)


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's own error, which SQLAlchemy wraps twice."""
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def explain(url: str, error: BaseException) -> GoalworkerError:
    """Return an error that says which database cannot be used, why, and what to do, without its password."""
    return _explain(mask_password(url), driver_error(error))


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


def summarize(url: str, error: BaseException) -> str:
    """Return one sentence without the remedy: which database cannot be used, and why."""
    cause = driver_error(error)
    if isinstance(cause, GoalworkerError):
        return cause.sentence
    problem = "answers, but cannot be used" if is_answer(cause) else "cannot be reached"
    return f"the database at {mask_password(url)} {problem}: {reason_of(cause)}"


def mask_password(url: str) -> str:
    """Return a database URL without its password."""
    return values.masked_url(url)
