"""Errors that end a command, each with its exit code (contract section 6)."""


class GoalworkerError(Exception):
    """A sentence for the user that says what is wrong, where, and what to do.

    The hint says where to look further. It ends the message; `sentence` is the message without it.
    """

    exit_code = 1

    def __init__(self, sentence: str = "", *, hint: str = "") -> None:
        super().__init__(f"{sentence} {hint}" if hint else sentence)
        self.sentence = sentence


class SettingsError(GoalworkerError):
    """A setting is missing, unknown or wrong, or contradicts the database."""

    exit_code = 3


class DependencyError(GoalworkerError):
    """A broker, database, topic or package source cannot be reached, or does not exist."""

    exit_code = 4


class RefusedError(GoalworkerError):
    """The broker or the database answers, but refuses a request until an operator grants a right."""


class MigrationsBehindError(GoalworkerError):
    """The database's schema is older than this build."""

    exit_code = 5


class StalledError(GoalworkerError):
    """The worker makes no progress although it has lag and every dependency is available."""

    exit_code = 6


class UndecodableError(GoalworkerError):
    """A batch whose checksum is right but that cannot be read: fetching it again changes nothing.

    first is the offset of its first record that was not read, last that of its last record, None if unknown.
    """

    def __init__(
        self, topic: str, partition: int, first: int, last: int | None, reason: str, *, hint: str = ""
    ) -> None:
        where = f"at offset {first}" if last is None else f"of offsets {first} to {last}"
        super().__init__(f"{topic}[{partition}]: the batch {where} cannot be read: {reason}.", hint=hint)
        self.topic, self.partition, self.first, self.last, self.reason = topic, partition, first, last, reason


class OutOfRangeError(GoalworkerError):
    """An offset is out of range: records were deleted before they were read, or the topic was recreated."""


class OutputLostError(GoalworkerError):
    """Standard output can no longer be written; the sentence is empty if it could not be read either."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
