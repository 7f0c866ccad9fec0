"""Log of retries: a line for each attempt that failed, held back while it repeats."""

import stamina.instrumentation

from goalworker import logs
from goalworker.runtime import housekeeping

log = logs.get("app")


def install() -> None:
    """Log the retries of this process from now on."""
    stamina.instrumentation.set_on_retry_hooks([_log_retry])


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    repeated = logs.limit_repeats(
        housekeeping.dependency_of(details.caused_by), f"retry {type(details.caused_by).__name__}"
    )
    if repeated is not None:
        log.warning(
            "retry",
            retry=details.retry_num,
            wait_seconds=round(details.wait_for, 2),
            error=logs.summarize_error(details.caused_by),
            **repeated,
        )
