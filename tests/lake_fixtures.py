"""Catalogs and small tables for tests of the lakehouse, on SQLite with a local folder and on PostgreSQL with S3."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType, LongType, NestedField, StringType

from catalog.iceberg.warehouse import Warehouse
from lakehouse.open_table import TableSpec, open_table
from schemas.settings import Settings
from tests.counterparts import S3Server

CLUSTER_ID = "test-cluster"
TOPIC_ID = UUID("11111111-2222-3333-4444-555555555555")

SCHEMA = Schema(
    NestedField(1, "_kafka_partition", IntegerType(), required=False),
    NestedField(2, "_kafka_offset", LongType(), required=False),
    NestedField(3, "text", StringType(), required=False),
)


def local_settings(folder: Path, **changes: Any) -> Settings:
    """Embedded mode in a folder."""
    return Settings(data=folder, **changes)


def bucket_settings(server: S3Server, bucket: str, metadata: str, **changes: Any) -> Settings:
    """Bucket mode against an S3 server and PostgreSQL."""
    return Settings(
        bucket=f"s3://{bucket}/lake",
        metadata=metadata,
        s3_endpoint=server.endpoint,
        s3_region=server.region,
        s3_access_key_id=server.access_key_id,
        s3_secret_access_key=server.secret_access_key,
        **changes,
    )


def spec(name: str = "events", **changes: Any) -> TableSpec:
    """A table of three columns."""
    return TableSpec("topics", name, TOPIC_ID, name, "main", SCHEMA, **changes)


def make_table(catalog: Catalog, warehouse: Warehouse, name: str = "events") -> Table:
    """An empty table of ours."""
    return open_table(catalog, spec(name), None, warehouse.location)


def write_rows(table: Table, partition: int, offsets: range) -> DataFile:
    """A Parquet file with one row per offset, ready to be committed."""
    rows = {
        "_kafka_partition": [partition] * len(offsets),
        "_kafka_offset": list(offsets),
        "text": [f"row {offset}" for offset in offsets],
    }
    return write_table(table, pa.table(rows, schema=schema_to_pyarrow(table.schema())))


def write_table(table: Table, rows: pa.Table) -> DataFile:
    """A Parquet file with these rows, ready to be committed to an unpartitioned table."""
    location = f"{table.location()}/data/{uuid.uuid4()}.parquet"
    with table.io.new_output(location).create() as stream:
        pq.write_table(rows, stream)
    opened = table.io.new_input(location)
    with opened.open() as source:
        metadata = pq.read_metadata(source)
    statistics = data_file_statistics_from_parquet_metadata(
        metadata, compute_statistics_plan(table.schema(), table.properties), parquet_path_to_id_mapping(table.schema())
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        file_size_in_bytes=len(opened),
        sort_order_id=None,
        spec_id=0,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def offsets_in(table: Table) -> Mapping[int, list[int]]:
    """partition -> sorted offsets of the rows a reader sees."""
    rows = table.scan(selected_fields=("_kafka_partition", "_kafka_offset")).to_arrow().to_pylist()
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(row["_kafka_partition"], []).append(row["_kafka_offset"])
    return {partition: sorted(offsets) for partition, offsets in found.items()}
