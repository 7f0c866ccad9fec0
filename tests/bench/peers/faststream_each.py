"""FastStream with SQLAlchemy, a message at a time, as its documentation shows: at least once, retried on error.

Each topic has a subscriber, so that five messages are handled at the same time, each committed after its transaction.
A consumer for each partition (`max_workers`) is not faster, since the CPU is the limit. A program that beside.py runs.
"""

from typing import Annotated, Any

import faststream
from faststream import kafka

from tests.bench.peers import usual


class CloudEvents:
    """Decoder that ignores the content type: FastStream's own accepts application/json only."""

    async def decode(self, message: Any) -> usual.Event:
        """Return the event."""
        return usual.Event.model_validate_json(message.body)

    async def encode(self, message: Any, serializer: Any = None) -> tuple[bytes, str | None]:
        """Return bytes unchanged."""
        return message, None


async def work(task: usual.Task, clock: usual.Clock) -> None:
    """Process this many events, those of a topic one after the other."""
    engine = task.engine(len(task.topics))
    goals = await usual.goals(engine)
    broker = kafka.KafkaBroker(task.bootstrap_servers, codec=CloudEvents(), logger=None, acks="all")
    app = faststream.FastStream(broker, logger=None)

    async def handle(event: usual.Event, key: Annotated[bytes, faststream.Context("message.raw_message.key")]) -> None:
        clock.begin()
        for goal in usual.hit(goals, event.tenantid, event.data):
            async with engine.begin() as connection:
                exited = await usual.achieve(connection, event, goal)
            for enrollment_id in exited:
                await broker.publish(usual.exit_of(enrollment_id, goal[0]), topic=task.exit_topic, key=key)
        if clock.end():
            app.exit()

    for topic in task.topics:
        broker.subscriber(
            topic,
            # A group for each topic: in a shared group, every consumer that joins stops all others for a moment.
            group_id=f"{task.group_id}-{topic}",
            auto_offset_reset="earliest",
            ack_policy=faststream.AckPolicy.NACK_ON_ERROR,
        )(handle)
    await app.run()
    await engine.dispose()


if __name__ == "__main__":
    usual.run(work)
