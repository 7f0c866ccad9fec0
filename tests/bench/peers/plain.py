"""The usual way, done well: a loop over aiokafka with pydantic and SQLAlchemy, an event at a time.

Goals are cached in a dictionary; each event that hits one is a transaction, after which its offset is committed.
A program that beside.py runs.
"""

import aiokafka

from tests.bench.peers import usual


async def work(task: usual.Task, clock: usual.Clock) -> None:
    """Process this many events, one after the other."""
    engine = task.engine()
    goals = await usual.goals(engine)
    consumer = aiokafka.AIOKafkaConsumer(
        *task.topics,
        bootstrap_servers=task.bootstrap_servers,
        group_id=task.group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    async with consumer, aiokafka.AIOKafkaProducer(bootstrap_servers=task.bootstrap_servers, acks="all") as producer:
        async for record in consumer:
            clock.begin()
            event = usual.Event.model_validate_json(record.value)
            for goal in usual.hit(goals, event.tenantid, event.data):
                async with engine.begin() as connection:
                    exited = await usual.achieve(connection, event, goal)
                for enrollment_id in exited:
                    await producer.send_and_wait(task.exit_topic, usual.exit_of(enrollment_id, goal[0]), record.key)
            await consumer.commit()
            if clock.end():
                break
    await engine.dispose()


if __name__ == "__main__":
    usual.run(work)
