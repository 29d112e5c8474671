from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SegmentHeader(_message.Message):
    __slots__ = ("cluster_id", "agent_epoch", "sequence", "shards", "journal")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    agent_epoch: int
    sequence: int
    shards: _containers.RepeatedCompositeFieldContainer[ShardEntry]
    journal: bytes
    def __init__(self, cluster_id: _Optional[str] = ..., agent_epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., shards: _Optional[_Iterable[_Union[ShardEntry, _Mapping]]] = ..., journal: _Optional[bytes] = ...) -> None: ...

class ShardEntry(_message.Message):
    __slots__ = ("topic_id", "shard", "byte_first", "byte_length", "batches", "offset_count", "timestamp_min", "timestamp_max", "crc", "topic")
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    BYTE_FIRST_FIELD_NUMBER: _ClassVar[int]
    BYTE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_COUNT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MIN_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MAX_FIELD_NUMBER: _ClassVar[int]
    CRC_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic_id: bytes
    shard: int
    byte_first: int
    byte_length: int
    batches: int
    offset_count: int
    timestamp_min: int
    timestamp_max: int
    crc: int
    topic: int
    def __init__(self, topic_id: _Optional[bytes] = ..., shard: _Optional[int] = ..., byte_first: _Optional[int] = ..., byte_length: _Optional[int] = ..., batches: _Optional[int] = ..., offset_count: _Optional[int] = ..., timestamp_min: _Optional[int] = ..., timestamp_max: _Optional[int] = ..., crc: _Optional[int] = ..., topic: _Optional[int] = ...) -> None: ...
