"""What the S3 adapter makes of a server's bad answers, and what it sends, against an HTTP server that misbehaves on demand."""

from __future__ import annotations

import asyncio

import pytest

from broker.objects.port import (
    AlreadyExists,
    Corrupt,
    NotFound,
    ObjectStoreError,
    OutcomeUnknown,
    Refused,
    Unavailable,
)
from broker.objects.retrying import RetryLimits
from broker.objects.s3 import S3Options, S3Store
from tests.conformance.object_stores import (
    OBJECT_HEADERS,
    Answer,
    reset,
    retrying,
    s3_store,
    silent,
    status,
    stub_s3,
    truncated,
)
from tests.counterparts import S3Server, free_port

SLOW_BODY = "<Error><Code>RequestTimeout</Code></Error>"
STORED = status(200, headers='ETag: "x"\r\n')


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (status(412), AlreadyExists),
        (status(409), Unavailable),
        (status(429), Unavailable),
        (status(503, "<Error><Code>SlowDown</Code></Error>"), Unavailable),
        (status(400, SLOW_BODY), Unavailable),
        (status(500), OutcomeUnknown),
        (status(502), OutcomeUnknown),
        (status(504), OutcomeUnknown),
        (reset(), OutcomeUnknown),
        (silent(), OutcomeUnknown),
        (status(400), Refused),
        (status(401), Refused),
        (status(403), Refused),
        (status(404), Refused),
        (status(301), Refused),
    ],
)
async def test_a_failed_put_is_told_by_what_may_have_happened(answer: Answer, expected: type[Exception]) -> None:
    async with stub_s3() as stub:
        stub.answers = [answer]
        with pytest.raises(ObjectStoreError) as raised:
            await stub.store(timeout_ms=300).put("k/x", [b"abc"])
        assert type(raised.value) is expected, raised.value
        assert len(stub.requests) == 1, "the client library must not retry by itself"
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (status(404), NotFound),
        (status(409), Unavailable),
        (status(429), Unavailable),
        (status(500), Unavailable),
        (status(502), Unavailable),
        (status(503), Unavailable),
        (status(504), Unavailable),
        (reset(), Unavailable),
        (silent(), Unavailable),
        (status(403), Refused),
        (truncated(b"abc", 100), Corrupt),
    ],
)
async def test_a_failed_get_is_told(answer: Answer, expected: type[Exception]) -> None:
    async with stub_s3() as stub:
        stub.answers = [answer]
        with pytest.raises(ObjectStoreError) as raised:
            await stub.store(timeout_ms=300).get("k/x")
        assert type(raised.value) is expected, raised.value
        assert len(stub.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        truncated(b"a" * 30, 100, "0-99/500"),  # the connection ends early
        truncated(b"a" * 50, 50, "0-49/500"),  # a shorter range than was asked for
        truncated(b"a" * 100, 100),  # the whole object instead of a range
    ],
)
async def test_a_short_or_wrong_range_is_corrupt(answer: Answer) -> None:
    async with stub_s3() as stub:
        stub.answers = [answer]
        with pytest.raises(Corrupt):
            await stub.store().get("k/x", 0, 100)


async def test_nobody_listening_is_unavailable_for_reads_and_writes() -> None:
    store = S3Store(
        S3Options("b", endpoint=f"http://127.0.0.1:{free_port()}", access_key_id="a", secret_access_key="s")
    )
    for call in (store.put("k", [b"x"]), store.get("k"), store.head("k")):
        with pytest.raises(Unavailable):
            await call
    assert await store.delete(["k"]) == []
    with pytest.raises(Unavailable):
        [page async for page in store.list("k")]


@pytest.mark.parametrize(("code", "expected"), [(503, Unavailable), (500, Unavailable), (404, Refused), (403, Refused)])
async def test_a_failed_listing_raises(code: int, expected: type[Exception]) -> None:
    async with stub_s3() as stub:
        stub.answers = [status(code)]
        with pytest.raises(expected):
            [page async for page in stub.store().list("k")]


def _listing(*keys: str, token: str = "") -> str:
    items = "".join(
        f"<Contents><Key>{key}</Key><Size>1</Size><LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return f'<?xml version="1.0"?><ListBucketResult>{items}{more}</ListBucketResult>'


async def test_a_listing_that_breaks_off_at_the_second_page_is_not_silent() -> None:
    async with stub_s3() as stub:
        stub.answers = [status(200, _listing("k/a", "k/b", token="t")), status(503)]
        with pytest.raises(Unavailable):
            [page async for page in stub.store().list("k")]
        stub.answers = [status(200, _listing("k/a", "k/b", token="t")), status(200, _listing("k/c"))]
        keys = [info.key async for page in stub.store().list("k") for info in page]
        assert keys == ["k/a", "k/b", "k/c"]


async def test_a_store_that_does_not_list_in_order_is_not_trusted() -> None:
    async with stub_s3() as stub:
        stub.answers = [status(200, _listing("k/b", "k/a"))]
        with pytest.raises(Unavailable, match="in order"):
            [page async for page in stub.store().list("k")]


async def test_deletes_that_fail_are_not_confirmed() -> None:
    failed = "<Error><Key>k/b</Key><Code>InternalError</Code><Message>oh</Message></Error>"
    gone = "<Deleted><Key>{}</Key></Deleted>"

    def result(*inside: str) -> Answer:
        return status(200, f'<?xml version="1.0"?><DeleteResult>{"".join(inside)}</DeleteResult>')

    async with stub_s3() as stub:
        store = stub.store()
        stub.answers = [status(503)]
        assert await store.delete(["k/a", "k/b"]) == []
        assert len(stub.requests) == 1
        stub.answers = [result(gone.format("k/a"), failed), result(gone.format("k/a")), result(failed)]
        assert len(await store.delete(["k/a", "k/b"])) == 1
        assert len(stub.requests) == 4


async def test_one_request_carries_all_parts_unjoined_and_conditional() -> None:
    async with stub_s3() as stub:
        stub.answers = [STORED]
        parts = [bytes([n]) * 100_000 for n in range(100)]
        await stub.store().put("k/x", parts)
        await stub.store().put("k/y", parts, if_absent=False)
        assert [request.split()[:2] for request in stub.requests] == [["PUT", "/b/k/x"], ["PUT", "/b/k/y"]]
        assert stub.bodies == [b"".join(parts)] * 2
        assert "if-none-match: *" in stub.headers[0].lower()
        assert "if-none-match" not in stub.headers[1].lower()


async def test_bodies_are_hashed_without_tls_and_not_with_it() -> None:
    async with stub_s3() as stub:
        stub.answers = [STORED]
        await stub.store(unsigned_payload=None).put("k/x", [b"abc"])
        await stub.store(unsigned_payload=True).put("k/x", [b"abc"])
        assert "UNSIGNED-PAYLOAD" not in stub.headers[0]
        assert "UNSIGNED-PAYLOAD" in stub.headers[1]
    assert not S3Options("b", endpoint="https://127.0.0.1:1").plain


async def test_the_secret_is_in_no_representation() -> None:
    store = S3Store(S3Options("b", access_key_id="key", secret_access_key="very secret"))
    assert "very secret" not in repr(store)


async def test_landed_behind_a_500_is_stored_when_its_content_is_ours(versitygw_server: S3Server) -> None:
    """The whole stack over a real server: the first answer is replaced by a 500 after the put has landed."""
    real = s3_store(versitygw_server)

    async def landed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str, request: bytes) -> None:
        await real.put("k/x", [request])
        await status(500)(reader, writer, line, request)

    body = b"stored" * 100
    async with stub_s3() as stub:
        found = status(200, body.decode(), OBJECT_HEADERS)
        stub.answers = [landed, found]
        await retrying(stub.store()).put("k/x", [body])
        assert [request.split()[0] for request in stub.requests] == ["PUT", "HEAD", "GET"]
    assert await real.get("k/x") == body
    await retrying(real).put("k/x", [body])
    with pytest.raises(AlreadyExists):
        await retrying(real).put("k/x", [b"other"])


async def test_a_truncated_body_is_read_again_before_it_is_corrupt() -> None:
    limits = RetryLimits(attempts=3, backoff_ms=1, backoff_max_ms=1)
    async with stub_s3() as stub:
        stub.answers = [truncated(b"abc", 100), status(200, "whole", OBJECT_HEADERS)]
        assert await retrying(stub.store(), limits=limits).get("k/x") == b"whole"
        stub.answers = [truncated(b"abc", 100)]
        with pytest.raises(Corrupt):
            await retrying(stub.store(), limits=limits).get("k/x")
        assert len(stub.requests) == 5
