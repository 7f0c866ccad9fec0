"""What can end a command, each with its exit code (contract section 6)."""


class GoalworkerError(Exception):
    """A sentence for a person: what is wrong, where, and what to do.

    hint: where to look further. It ends the message, and `sentence` is the message without it.
    """

    exit_code = 1

    def __init__(self, sentence: str = "", *, hint: str = "") -> None:
        super().__init__(f"{sentence} {hint}" if hint else sentence)
        self.sentence = sentence


class SettingsError(GoalworkerError):
    """A setting is missing, unknown or wrong, or contradicts the database."""

    exit_code = 3


class DependencyError(GoalworkerError):
    """Broker, database, topic or package source that cannot be reached or is not there."""

    exit_code = 4


class RefusedError(GoalworkerError):
    """Broker or database answers, but does not allow what is needed: somebody must change a right there."""


class MigrationsBehindError(GoalworkerError):
    """The database's schema is older than this build."""

    exit_code = 5


class StalledError(GoalworkerError):
    """There is lag, nothing that it could wait for is known to be away, and nothing moves."""

    exit_code = 6


class OutputLostError(GoalworkerError):
    """Standard output cannot be written any more; without a sentence where nobody would read it."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
