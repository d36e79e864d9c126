"""HTTP API of the photo server, and its page."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.staticfiles import StaticFiles

from .._version import __version__
from ..errors import ArgumentError, SinkError, SourceError, first_line
from .answers import error_response
from .jobs import Job, Jobs, JobState, QueueFull
from .operations import CutoutStep, Operation, Recipe, Workbench
from .pictures import DiskFullError, Picture, Pictures
from .settings import ServeSettings
from .site_guard import SiteGuard

__all__ = ["STATIC", "Failure", "JobTold", "NewJob", "PictureTold", "Told", "photo_app"]

STATIC = Path(__file__).parent / "static"
"""Folder of the page: ES modules, styles and texts, as they are served."""

_COOKIE = "__Host-edgerestore"
_TOKEN_CHARS = 32
_SWEEP_S = 30.0


class NewJob(BaseModel):
    """A recipe to be run on an uploaded picture."""

    model_config = ConfigDict(extra="forbid")

    picture: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    recipe: Recipe = []
    format: Literal["auto", "png", "jpg"] = "auto"


class PictureTold(BaseModel):
    """An uploaded picture."""

    id: str
    name: str
    width: int
    height: int
    note: str


class JobTold(BaseModel):
    """A job: its state, its place in the queue, the seconds that are left."""

    id: str
    picture: str
    recipe: Recipe
    format: str
    state: JobState
    created_s: float
    progress: float
    message: str
    name: str
    width: int
    height: int
    position: int
    eta_s: float | None


class Told(BaseModel):
    """What the server does and takes."""

    version: str
    operations: list[Operation]
    max_upload_mb: float
    max_megapixels: float


class Failure(BaseModel):
    """An error, in a line."""

    error: str


@dataclass
class _Site:
    """What the endpoints work with; one for each application."""

    settings: Callable[[], ServeSettings]
    pictures: Pictures
    jobs: Jobs
    workbench: Workbench
    seen_s: dict[str, float] = field(default_factory=dict)
    """When each guest was last heard of."""
    # One picture is decoded at a time, besides the job's.
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))


async def _site(request: Request) -> _Site:
    site: _Site = request.app.state.site
    return site


_Here = Annotated[_Site, Depends(_site)]


async def _visitor(request: Request, response: Response, site: _Here) -> str:
    """Return who asks: a digest of the guest's cookie, which is given where there is none."""
    token = request.cookies.get(_COOKIE, "")
    if len(token) < _TOKEN_CHARS:
        token = secrets.token_urlsafe(_TOKEN_CHARS)
        response.set_cookie(_COOKIE, token, secure=True, httponly=True, samesite="strict", path="/")
    owner = hashlib.sha256(token.encode()).hexdigest()
    site.seen_s[owner] = time.monotonic()
    return owner


_Owner = Annotated[str, Depends(_visitor)]
_routes = APIRouter()


def photo_app(
    settings: Callable[[], ServeSettings], pictures: Pictures, jobs: Jobs, workbench: Workbench
) -> SiteGuard:
    """Return the ASGI application of the photo server.

    Parameters
    ----------
    settings : callable
        Returns the settings as they are now.
    pictures : Pictures
    jobs : Jobs
    workbench : Workbench
    """
    site = _Site(settings, pictures, jobs, workbench)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(site))
        yield
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping

    app = FastAPI(
        title="edgerestore",
        version=__version__,
        lifespan=life,
        docs_url=None,  # those pages load scripts of other sites
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.site = site
    app.add_exception_handler(StarletteHTTPException, _as_line)
    app.include_router(_routes)
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return SiteGuard(app, lambda: settings().hosts)


@_routes.get("/api/v1/server")
async def _server(site: _Here) -> Told:
    """Say what this server does and takes."""
    now = site.settings()
    return Told(
        version=__version__,
        operations=site.workbench.operations,
        max_upload_mb=now.max_upload_mb,
        max_megapixels=now.max_megapixels,
    )


@_routes.get("/v2/health/live")
@_routes.get("/v2/health/ready")
async def _health(site: _Here) -> dict[str, Any]:
    return {"ready": True, "jobs": site.jobs.counts()}


def _mine(site: _Site, ident: str, owner: str) -> Job:
    job = site.jobs.find(ident, owner)
    if job is None:
        raise HTTPException(404, "no such job of yours")
    return job


@_routes.post(
    "/api/v1/pictures",
    status_code=201,
    responses={one: {"model": Failure} for one in (403, 413, 415, 421, 507)},
)
async def _upload(
    request: Request,
    owner: _Owner,
    site: _Here,
    name: Annotated[str, Query(max_length=200)] = "picture",
) -> PictureTold:
    """Take the bytes of an image file, as they are, as the request's body."""
    now = site.settings()
    raw = await _body(request, now.max_upload_mb)
    try:
        async with site.decoding:
            made = await asyncio.to_thread(
                site.pictures.add, raw, name, owner, round(now.max_megapixels * 1e6)
            )
    except SourceError as error:
        raise HTTPException(415, first_line(error)) from error
    except DiskFullError as error:
        raise HTTPException(507, first_line(error)) from error
    except SinkError as error:
        raise HTTPException(500, first_line(error)) from error
    return PictureTold.model_validate(made, from_attributes=True)


@_routes.get("/api/v1/pictures/{ident}", response_class=Response)
async def _view(ident: str, owner: _Owner, site: _Here) -> Response:
    """Return a picture as pages show it, at most 1600 pixels long."""
    found = _found(site.pictures.find(ident, owner))
    data = site.pictures.view(found)
    kind = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
    return Response(data, media_type=kind)


@_routes.delete("/api/v1/session", status_code=204)
async def _leave(owner: _Owner, site: _Here) -> None:
    """Delete the visitor's pictures and jobs."""
    site.pictures.delete_of(owner)
    site.jobs.delete_of(owner)


@_routes.post(
    "/api/v1/jobs",
    status_code=202,
    responses={one: {"model": Failure} for one in (403, 404, 409, 421, 429, 507)},
)
async def _submit(wanted: NewJob, owner: _Owner, site: _Here) -> JobTold:
    """Queue a recipe; it is run from the untouched original."""
    _found(site.pictures.find(wanted.picture, owner))
    for step in wanted.recipe:
        if isinstance(step, CutoutStep) and step.background.startswith("picture:"):
            _found(site.pictures.find(step.background.partition(":")[2], owner))
    now = site.settings()
    try:
        site.workbench.check(wanted.recipe)
        asked = Job(id="", owner=owner, **wanted.model_dump())
        job = site.jobs.submit(asked, now.queue, now.per_user)
    except ArgumentError as error:
        raise HTTPException(409, first_line(error)) from error
    except QueueFull as full:
        retry = {"Retry-After": str(full.retry_s)}
        raise HTTPException(429, str(full), retry) from full
    except SinkError as error:
        raise HTTPException(507, first_line(error)) from error
    return JobTold.model_validate(site.jobs.told(job))


@_routes.get("/api/v1/jobs/{ident}", responses={404: {"model": Failure}})
async def _state(ident: str, owner: _Owner, site: _Here) -> JobTold:
    return JobTold.model_validate(site.jobs.told(_mine(site, ident, owner)))


@_routes.delete("/api/v1/jobs/{ident}", status_code=204, responses={404: {"model": Failure}})
async def _cancel(ident: str, owner: _Owner, site: _Here) -> None:
    """Cancel a job that waits or runs; delete one that has ended."""
    site.jobs.cancel(_mine(site, ident, owner))


@_routes.get("/api/v1/jobs/{ident}/events", response_class=StreamingResponse)
async def _events(
    ident: str,
    owner: _Owner,
    site: _Here,
    last_event_id: Annotated[str, Header()] = "",
) -> StreamingResponse:
    """Stream the job's states as server-sent events, after the last one that was seen."""
    after = int(last_event_id) if last_event_id.isdecimal() and last_event_id.isascii() else 0
    return StreamingResponse(
        site.jobs.events(_mine(site, ident, owner), after),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


@_routes.get("/api/v1/jobs/{ident}/result", response_class=FileResponse)
async def _result(
    ident: str,
    owner: _Owner,
    site: _Here,
    download: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Return the result as a file, under a name where one is given."""
    job = _mine(site, ident, owner)
    if job.state is not JobState.DONE:
        raise HTTPException(409, f"the job is {job.state}; there is no result")
    kind = "image/jpeg" if job.name.endswith(".jpg") else "image/png"
    named = f"attachment; filename*=UTF-8''{quote(download or job.name, safe='')}"
    headers = {"Content-Disposition": named} if download else {}
    return FileResponse(site.jobs.result(job), media_type=kind, headers=headers)


def _found(picture: Picture | None) -> Picture:
    if picture is None:
        raise HTTPException(404, "no such picture of yours")
    return picture


async def _body(request: Request, most_mb: float) -> bytes:
    """Read a request's body, refused as soon as it is longer than a bound."""
    most, refusal = round(most_mb * 1e6), f"the file is larger than {most_mb:g} MB, the limit here"
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > most:
        raise HTTPException(413, refusal)
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > most:
            raise HTTPException(413, refusal)
    return bytes(raw)


async def _as_line(_: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 - registered for it
    return error_response(error.status_code, str(error.detail), error.headers)


async def _sweep(site: _Site) -> None:
    """Delete what guests left behind who were not heard of for long."""
    while True:
        await asyncio.sleep(_SWEEP_S)
        keep_s = 60 * site.settings().keep_minutes
        for owner in await asyncio.to_thread(site.pictures.owners_before, keep_s):
            if time.monotonic() - site.seen_s.get(owner, float("-inf")) > keep_s:
                await asyncio.to_thread(site.pictures.delete_of, owner)
                site.jobs.delete_of(owner)
                site.seen_s.pop(owner, None)
