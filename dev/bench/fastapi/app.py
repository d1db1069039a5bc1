"""captcha's `POST /v1/events` on FastAPI and aiokafka, as a good user would write it: what `captcha serve` is measured
against. Pydantic validates; the answer waits until every event is on all in-sync replicas."""

import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import FastAPI, HTTPException, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

BROKERS, TOPIC = os.environ["BENCH_BROKERS"], os.environ["BENCH_TOPIC"]
LINGER_MS = int(os.environ.get("BENCH_LINGER_MS", "0"))


def in_utc(time):
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    if not 1970 <= time.year <= 2200:
        raise ValueError("outside the years 1970 to 2200")
    return time.replace(tzinfo=None)


class Event(BaseModel):
    model_config = ConfigDict(extra="forbid")

    site_id: UUID
    type: Literal["serve", "solve"]
    correlation_id: UUID
    time: Annotated[datetime, AfterValidator(in_utc)]


class Accepted(BaseModel):
    status: str
    topic: str
    message: str
    accepted: int
    receipts: list[str]


@asynccontextmanager
async def lifespan(app):
    # Batches of 256 KiB instead of 16: the default leaves most of a large request waiting for another round trip.
    producer = AIOKafkaProducer(
        bootstrap_servers=BROKERS, acks="all", linger_ms=LINGER_MS, max_batch_size=256 << 10, request_timeout_ms=4500
    )
    async with producer:
        app.state.producer = producer
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/events")
async def accept(
    events: Event | Annotated[list[Event], Field(min_length=1, max_length=10_000)], request: Request
) -> Accepted:
    events = events if isinstance(events, list) else [events]
    producer = request.app.state.producer
    try:
        sent = [
            await producer.send(TOPIC, key=str(event.correlation_id).encode(), value=event.model_dump_json().encode())
            for event in events
        ]
        delivered = [await delivery for delivery in sent]
    except KafkaError as error:
        raise HTTPException(503, f"not confirmed by kafka: {error}", {"Retry-After": "1"}) from None
    return Accepted(
        status="accepted",
        topic=TOPIC,
        message="every event is on all in-sync replicas and will be counted once",
        accepted=len(delivered),
        receipts=[f"{delivery.partition}:{delivery.offset}" for delivery in delivered],
    )
