"""Questions of the console to Kafka: asked on demand, with a deadline, their answers shared for some seconds.

The API serves without a broker, and its settings may name none. Whatever keeps Kafka from answering is a sentence of
the page; the broker's address and the cause stand in the log only, since every tenant may see the page.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, TypeVar

import aiokafka
from fastapi import Request
from msgspec import Struct

from goalworker import config, errors, logs
from goalworker.api import middleware
from goalworker.console import contact_links, payloads
from goalworker.domain import explanations
from goalworker.inspection import contact_letters, dead_letter_reading, lag_report, newest_letters, open_letters
from goalworker.stores import answer_cache

log = logs.get("console")

# Seconds that the broker has for an answer.
DEADLINE_SECONDS: Final = 4.0
# Seconds that a preview may take, which reads all letters and the redrive topic.
PREVIEW_SECONDS: Final = 12.0
# Seconds that a request takes besides: connections to close, and a page to make.
_BESIDES_SECONDS: Final = 3.0
# Seconds in which records are read, so that the connections before and after fit into the deadline.
READ_SECONDS: Final = 2.0
# Seconds for which an answer, or its absence, is shown to everyone.
CACHE_SECONDS: Final = 5.0
PREVIEW_ROWS: Final = 20

T = TypeVar("T")


class Unanswered(Struct, frozen=True):
    """Sentence that says why an answer is missing."""

    sentence: str


NOT_CONFIGURED: Final = Unanswered(
    "This API has no address of Kafka, which it does not need otherwise: set GOALWORKER_KAFKA__BOOTSTRAP_SERVERS."
)
NO_ANSWER: Final = "Kafka did not answer within {:g} s. The log of the API and `goalworker doctor` say more."
TOO_MANY: Final = Unanswered("Your tenant has as many questions to Kafka waiting as it may. Try again in some seconds.")
_UNUSABLE: Final = Unanswered("Kafka cannot be used from here. The log of the API and `goalworker doctor` say why.")


def split(answer: object, name: str) -> dict[str, Any]:
    """Return the values of a template: the answer under a name, or the sentence in its place."""
    if isinstance(answer, Unanswered):
        return {name: None, "unanswered": answer}
    return {name: answer, "unanswered": None}


class KafkaAnswers:
    """Questions to Kafka: about the installation, about a letter, and searches, two of each under way at a time.

    There are two questions about the installation, so neither ever waits. Of the others there are as many as a tenant
    can think of: few of them may wait, and one whose requests are gone is not asked.
    """

    def __init__(self, settings: config.Settings) -> None:
        self._settings = settings
        self._installation = answer_cache.BriefCache(CACHE_SECONDS)
        self._letters = answer_cache.BriefCache(CACHE_SECONDS)
        self._searches = answer_cache.BriefCache(CACHE_SECONDS)

    async def lag(self) -> list[dict[str, Any]] | Unanswered:
        """Return the lag of the workers' group by partition, as `goalworker lag` does."""
        settings = self._settings

        async def read() -> list[dict[str, Any]]:
            return await lag_report.rows(settings, settings.kafka.group_id, READ_SECONDS)

        return await self._ask(self._installation, None, "lag", read)

    async def newest_letters(self) -> newest_letters.NewestLetters | Unanswered:
        """Return the newest dead letters of all tenants."""

        async def read() -> newest_letters.NewestLetters:
            return await newest_letters.read(self._settings, READ_SECONDS, _described)

        return await self._ask(self._installation, None, "letters", read)

    async def letter(
        self, tenant_id: str, partition: int, offset: int, *, revealed: bool
    ) -> payloads.Letter | Unanswered | None:
        """Return a dead letter of a tenant with its payload; None if it may be another tenant's, or is gone."""

        async def find() -> payloads.Letter | None:
            try:
                record = await dead_letter_reading.one(self._settings, partition, offset)
            except dead_letter_reading.LetterNotFoundError:
                return None
            if dead_letter_reading.owners_of(self._settings)(record) != tenant_id:
                return None
            described = dead_letter_reading.describe(record) if revealed else _described(record)
            return payloads.letter(described, record, contact_links.masked, revealed=revealed)

        return await self._ask(self._letters, tenant_id, (tenant_id, partition, offset, revealed), find)

    async def letters_of(self, tenant_id: str, contact_id: str) -> tuple[explanations.DeadLetter, ...] | Unanswered:
        """Return the dead letters of a contact of a tenant, oldest first."""

        async def find() -> tuple[explanations.DeadLetter, ...]:
            return await contact_letters.find(self._settings, tenant_id, contact_id, is_owner=True)

        return await self._ask(self._searches, tenant_id, (tenant_id, contact_id), find, PREVIEW_SECONDS)

    async def preview(self, selection: dead_letter_reading.Selection) -> open_letters.Preview | Unanswered:
        """Return what a redrive of a selection would send, as `goalworker dlq redrive --dry-run` does."""

        async def preview() -> open_letters.Preview:
            return await open_letters.preview(self._settings, selection, PREVIEW_ROWS, _described)

        return await self._ask(self._searches, selection.tenant_id, selection, preview, PREVIEW_SECONDS)

    async def _ask(
        self,
        cache: answer_cache.BriefCache,
        tenant_id: str | None,
        key: Hashable,
        question: Callable[[], Coroutine[Any, Any, T]],
        seconds: float = DEADLINE_SECONDS,
    ) -> T | Unanswered:
        if self._settings.kafka.bootstrap_servers is None:
            return NOT_CONFIGURED

        async def attempt() -> T | Unanswered:
            return await _attempt(question, seconds)

        try:
            # Questions wait for each other, and connections may take a while to close.
            async with asyncio.timeout(seconds + 0.5):
                return await cache.answer(key, attempt, tenant_id)
        except answer_cache.TooManyWaitingError:
            return TOO_MANY
        except TimeoutError:
            return _late(seconds)


def of(request: Request, seconds: float = DEADLINE_SECONDS) -> KafkaAnswers:
    """Return the answers that the process of a request shares, and let the request wait so long for one of them."""
    middleware.allow(request, seconds + _BESIDES_SECONDS)
    answers: KafkaAnswers = request.app.state.kafka_answers
    return answers


def _described(record: aiokafka.ConsumerRecord) -> dict[str, Any]:
    return payloads.described(record, contact_links.masked)


async def _attempt(question: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T | Unanswered:
    try:
        async with asyncio.timeout(seconds):
            return await question()
    except TimeoutError:
        return _late(seconds)
    except errors.GoalworkerError as error:
        _log(str(error))
        return _UNUSABLE


def _late(seconds: float) -> Unanswered:
    sentence = NO_ANSWER.format(seconds)
    _log(sentence)
    return Unanswered(sentence)


def _log(problem: str) -> None:
    if (held := logs.limit_repeats("console", problem)) is not None:
        log.warning("kafka_not_read", problem=problem, **held)
