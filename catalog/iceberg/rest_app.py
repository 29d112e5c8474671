"""Read-only Iceberg REST catalog as an ASGI app, to be mounted (under `/iceberg`) into the broker's HTTP port.

Serves what engines need to read: config, namespaces, tables, table metadata. Every write answers 403 with the way out:
tables are written by the exporter alone. Neither pyiceberg nor SQLAlchemy is imported. No secret is ever told to a client:
for S3 the answers carry endpoint, region and addressing only, and readers bring their own keys.
Source: Iceberg REST catalog specification (open-api/rest-catalog-open-api.yaml), its error bodies and namespace encoding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from catalog.iceberg.metadata_file import MetadataUnreadable, ReadBytes, metadata_json, reading
from catalog.iceberg.rows import CatalogRows, CatalogUnavailable
from catalog.iceberg.warehouse import CATALOG_NAME

LEVEL_SEPARATOR = "\x1f"
"""Levels of a namespace in a path (`%1F`), by the specification."""

READ_ONLY = "this catalog is read-only: tables are written by Neve's exporter (see iceberg.* topic settings)"

_ENDPOINTS = [
    "GET /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
]


class CatalogError(Exception):
    """An answer with the specification's error body."""

    def __init__(self, status: HTTPStatus, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


def no_such_namespace(namespace: str) -> CatalogError:
    """404 of an unknown namespace."""
    return CatalogError(HTTPStatus.NOT_FOUND, "NoSuchNamespaceException", f"Namespace does not exist: {namespace}")


def no_such_table(namespace: str, table: str) -> CatalogError:
    """404 of an unknown table."""
    return CatalogError(HTTPStatus.NOT_FOUND, "NoSuchTableException", f"Table does not exist: {namespace}.{table}")


class RestCatalog:
    """The handlers. `read_bytes` reads locations outside the local file system; `client_config` is told to clients."""

    def __init__(
        self, rows: CatalogRows, read_bytes: ReadBytes | None = None, client_config: Mapping[str, str] | None = None
    ) -> None:
        self._rows = rows
        self._read = reading(read_bytes)
        self._client_config = dict(client_config or {})

    async def config(self, request: Request) -> Response:
        """GET /v1/config?warehouse=neve."""
        warehouse = request.query_params.get("warehouse", "")
        if warehouse not in ("", CATALOG_NAME):
            raise CatalogError(
                HTTPStatus.BAD_REQUEST, "BadRequestException", f"no warehouse {warehouse!r} here: use {CATALOG_NAME!r}"
            )
        return JSONResponse({"defaults": self._client_config, "overrides": {}, "endpoints": _ENDPOINTS})

    async def namespaces(self, request: Request) -> Response:
        """GET /v1/namespaces[?parent=]: the levels right below the parent."""
        parent = _dotted(request.query_params.get("parent", ""))
        if parent:
            await self._must_exist(parent)
        start = f"{parent}." if parent else ""
        known = await self._rows.namespaces()
        children = sorted({start + name[len(start) :].split(".")[0] for name in known if name.startswith(start)})
        page, token = _page(request, children)
        return JSONResponse({"namespaces": [name.split(".") for name in page], "next-page-token": token})

    async def namespace(self, request: Request) -> Response:
        """GET and HEAD /v1/namespaces/{namespace}."""
        name = _dotted(request.path_params["namespace"])
        properties = await self._must_exist(name)
        if request.method == "HEAD":
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return JSONResponse({"namespace": name.split("."), "properties": properties})

    async def tables(self, request: Request) -> Response:
        """GET /v1/namespaces/{namespace}/tables."""
        name = _dotted(request.path_params["namespace"])
        await self._must_exist(name)
        page, token = _page(request, await self._rows.tables(name))
        identifiers = [{"namespace": name.split("."), "name": table} for table in page]
        return JSONResponse({"identifiers": identifiers, "next-page-token": token})

    async def table(self, request: Request) -> Response:
        """GET and HEAD /v1/namespaces/{namespace}/tables/{table}[?snapshots=all|refs]."""
        namespace, table = _dotted(request.path_params["namespace"]), request.path_params["table"]
        location = await self._location(namespace, table)
        if request.method == "HEAD":
            return Response(status_code=HTTPStatus.NO_CONTENT)
        snapshots = request.query_params.get("snapshots", "all")
        etag = f'"{location}:{snapshots}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": etag})
        location, metadata = await self._metadata(namespace, table, location)
        if snapshots == "refs":
            metadata = _referenced_only(metadata)
        # The metadata is passed on as it stands in its file: parsing and printing it again would cost more than reading it.
        # No "config" of the table's own: DuckDB would take endpoint and region there for vended credentials and put them
        # before the user's secret. /v1/config tells them to the clients that ask for them.
        head = json.dumps({"metadata-location": location})
        body = head[:-1].encode() + b', "metadata": ' + metadata + b"}"
        return Response(body, media_type="application/json", headers={"etag": f'"{location}:{snapshots}"'})

    async def views(self, request: Request) -> Response:
        """GET /v1/namespaces/{namespace}/views: there are none."""
        await self._must_exist(_dotted(request.path_params["namespace"]))
        return JSONResponse({"identifiers": []})

    async def view(self, request: Request) -> Response:
        """GET and HEAD of a view: there are none."""
        raise CatalogError(
            HTTPStatus.NOT_FOUND, "NoSuchViewException", f"View does not exist: {request.path_params['view']}"
        )

    async def metrics(self, request: Request) -> Response:
        """POST of a scan report, which engines send unasked: taken and dropped."""
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _must_exist(self, namespace: str) -> dict[str, str]:
        properties = await self._rows.namespace_properties(namespace)
        if properties is None:
            raise no_such_namespace(namespace)
        return properties

    async def _location(self, namespace: str, table: str) -> str:
        location = await self._rows.metadata_location(namespace, table)
        if location is not None:
            return location
        await self._must_exist(namespace)
        raise no_such_table(namespace, table)

    async def _metadata(self, namespace: str, table: str, location: str) -> tuple[str, bytes]:
        """(location, JSON). Old metadata files are removed after commits, so one that is gone is looked up once more."""
        try:
            return location, metadata_json(location, await self._read(location))
        except FileNotFoundError:
            newer = await self._location(namespace, table)
            if newer == location:
                raise MetadataUnreadable(f"the metadata file of {namespace}.{table} is missing: {location}") from None
            return newer, metadata_json(newer, await self._read(newer))


def rest_app(
    rows: CatalogRows, read_bytes: ReadBytes | None = None, client_config: Mapping[str, str] | None = None
) -> Starlette:
    """The ASGI app. Paths begin with `/v1`; mount it under a prefix such as `/iceberg`."""
    catalog = RestCatalog(rows, read_bytes, client_config)
    namespace, table = "/v1/namespaces/{namespace}", "/v1/namespaces/{namespace}/tables/{table}"
    return Starlette(
        routes=[
            Route("/v1/config", catalog.config),
            Route("/v1/namespaces", catalog.namespaces),
            Route(namespace, catalog.namespace),
            Route(f"{namespace}/tables", catalog.tables),
            Route(table, catalog.table),
            Route(f"{table}/metrics", catalog.metrics, methods=["POST"]),
            Route(f"{namespace}/views", catalog.views),
            Route(f"{namespace}/views/{{view}}", catalog.view),
        ],
        exception_handlers={
            CatalogError: _catalog_error,
            CatalogUnavailable: _unavailable,
            MetadataUnreadable: _unreadable,
            OSError: _unavailable,
            HTTPException: _http_error,
        },
    )


def _dotted(path_level: str) -> str:
    return path_level.replace(LEVEL_SEPARATOR, ".")


def _page(request: Request, names: Sequence[str]) -> tuple[list[str], str | None]:
    """One page of sorted names. The token is the last name of the page before, so pages survive changes in between."""
    after = request.query_params.get("pageToken", "")
    left = [name for name in names if name > after]
    size_text = request.query_params.get("pageSize", "")
    if not size_text:
        return left, None
    if not size_text.isdecimal() or int(size_text) < 1:
        raise CatalogError(
            HTTPStatus.BAD_REQUEST, "BadRequestException", f"pageSize must be 1 or more, not {size_text!r}"
        )
    size = int(size_text)
    return left[:size], left[size - 1] if len(left) > size else None


def _referenced_only(metadata: bytes) -> bytes:
    """Metadata with the snapshots of branches and tags alone (`snapshots=refs`)."""
    parsed: dict[str, Any] = json.loads(metadata)
    wanted = {ref["snapshot-id"] for ref in parsed.get("refs", {}).values()} | {parsed.get("current-snapshot-id")}
    parsed["snapshots"] = [one for one in parsed.get("snapshots", []) if one["snapshot-id"] in wanted]
    return json.dumps(parsed).encode()


def _error(status: HTTPStatus, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "code": int(status)}}, status_code=status)


async def _catalog_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CatalogError)
    return _error(error.status, error.kind, str(error))


async def _unavailable(request: Request, error: Exception) -> Response:
    return _error(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailableException", f"{error}; retry later")


async def _unreadable(request: Request, error: Exception) -> Response:
    return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError", str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.method not in ("GET", "HEAD"):
        return _error(HTTPStatus.FORBIDDEN, "ForbiddenException", f"{request.method} {request.url.path}: {READ_ONLY}")
    return _error(HTTPStatus(error.status_code), "NoSuchEndpointException", f"nothing at {request.url.path}")
