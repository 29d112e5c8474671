"""`neve query`: one SQL statement over the tables, through the Iceberg REST catalog."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from neve.cli.output import HTTP_OPTION, cell, fail, print_json, print_table

if TYPE_CHECKING:
    from pyarrow import Table


class Format(StrEnum):
    """Result formats."""

    table = "table"
    csv = "csv"
    json = "json"
    arrow = "arrow"


def query(
    sql: str = typer.Argument(..., help="SQL; tables are lake.topics.<topic>, or just topics.<topic>."),
    format: Format = typer.Option(Format.table, "--format", "-f", help="Result format; arrow is an IPC stream."),
    http: str = HTTP_OPTION,
) -> None:
    """Ask the tables with DuckDB."""
    try:
        from lakehouse.query import QueryError, run_query
    except ModuleNotFoundError as error:
        fail(f"`neve query` needs the lake packages ({error.name} is missing): pip install 'neve[lake]'")
    try:
        table = run_query(sql, http=http)
    except QueryError as error:
        fail(str(error))
    if format is Format.arrow:
        import pyarrow as pa

        with pa.ipc.new_stream(sys.stdout.buffer, table.schema) as stream:
            stream.write_table(table)
    elif format is Format.csv:
        import pyarrow.csv as pc

        pc.write_csv(flat(table), sys.stdout.buffer)
    elif format is Format.json:
        for row in table.to_pylist():
            print_json(row)
    else:
        print_table(table.column_names, list(zip(*(column.to_pylist() for column in table.columns), strict=True)))


def flat(table: Table) -> Table:
    """For CSV: nested values as JSON, bytes as text."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            values = [None if value is None else cell(value) for value in table.column(index).to_pylist()]
            table = table.set_column(index, field.name, pa.array(values, pa.string()))
    return table
