"""Load through a real client, confluent-kafka (librdkafka): one producer, or one consumer from the start.

Usage: python -m tests.bench.client_load produce BOOTSTRAP TOPIC --batch-size 16384 --linger 5 --records N --record 1024
       python -m tests.bench.client_load consume BOOTSTRAP TOPIC --records N --partitions 16
"""

from __future__ import annotations

import argparse
import json
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition


def produce(args: argparse.Namespace) -> dict[str, float]:
    """One idempotent producer at full speed for `seconds`, every record acknowledged."""
    failed: list[str] = []
    acknowledged = 0

    def delivered(error: object, _message: object) -> None:
        nonlocal acknowledged
        if error is not None:
            failed.append(str(error))
        else:
            acknowledged += 1

    producer = Producer(
        {
            "bootstrap.servers": args.bootstrap,
            "linger.ms": args.linger,
            "batch.size": args.batch_size,
            "acks": "all",
            "enable.idempotence": True,
            "queue.buffering.max.kbytes": 512 * 1024,
            "queue.buffering.max.messages": 400_000,
        }
    )
    producer.list_topics(args.topic, timeout=30)
    value = (b"0123456789abcdef" * (args.record // 16 + 1))[: args.record]
    started = time.monotonic()
    stop_at = started + args.seconds
    sent = 0
    while True:
        if sent % 64 == 0 and time.monotonic() >= stop_at:
            break
        try:
            producer.produce(args.topic, value, partition=sent // 16 % args.partitions, on_delivery=delivered)
            sent += 1
        except BufferError:
            producer.poll(0.01)
        if sent % 256 == 0:
            producer.poll(0)
    producer.flush(120)
    seconds = time.monotonic() - started
    if failed or acknowledged != sent:
        raise RuntimeError(f"{acknowledged} of {sent} acknowledged; {failed[:1]}")
    return {"seconds": seconds, "records": sent, "bytes": sent * args.record}


def consume(args: argparse.Namespace) -> dict[str, float]:
    """One consumer assigned all partitions, from the start, to `records`."""
    consumer = Consumer(
        {
            "bootstrap.servers": args.bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
        }
    )
    consumer.assign([TopicPartition(args.topic, p, 0) for p in range(args.partitions)])
    got = total = 0
    started = time.monotonic()
    deadline = started + 120
    while got < args.records and time.monotonic() < deadline:
        for message in consumer.consume(10_000, 1.0):
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    continue
                raise RuntimeError(str(error))
            got += 1
            total += len(message.value())
    seconds = time.monotonic() - started
    consumer.close()
    if got < args.records:
        raise RuntimeError(f"consumed {got} of {args.records}")
    return {"seconds": seconds, "records": got, "bytes": total}


def main() -> None:
    """Run one load and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["produce", "consume"])
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--batch-size", type=int, default=16384)
    parser.add_argument("--linger", type=float, default=5)
    parser.add_argument("--record", type=int, default=1024)
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    print(json.dumps({"produce": produce, "consume": consume}[args.mode](args)))


if __name__ == "__main__":
    main()
