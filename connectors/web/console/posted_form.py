"""A form as a browser posted it: its values by field name, within bounds of size and number.

Owns the reading of a form's body; what the values of a field mean is the page's, `settings_form`'s and `rule_form`'s.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from connectors.web.request_input import read_body

MAX_FORM_BYTES = 256 * 1024
_MAX_FILES, _MAX_FILE_FIELDS = 1, 200
_MAX_FIELDS = 6000  # the page of settings that has most fields has hundreds; parsing takes time for each field


@dataclass(frozen=True, slots=True)
class PostedFile:
    """A file that a form carries; its name is the sender's and says nothing."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PostedForm:
    """Values by field name, as posted or as saved before; where a name has several values, the last one counts."""

    values: Mapping[str, list[str]] = field(default_factory=dict)
    files: Mapping[str, PostedFile] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        """Return the last value of a field, or the default where the form does not have the field."""
        values = self.values.get(name)
        return values[-1] if values else default

    def all(self, name: str) -> list[str]:
        """List the values of a field in the order of the form."""
        return list(self.values.get(name, ()))

    def __contains__(self, name: str) -> bool:
        return name in self.values


async def _read_multipart(request: Request, body: bytes) -> PostedForm | None:
    """Read a form with a file, whose body is in memory already; `None` where it cannot be read."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    # the boundary and nothing else of what the sender says of the form: an encoding may cost any work
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"").decode("latin-1")
    if not boundary:
        return None
    headers = Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'})
    parser = MultiPartParser(
        headers, stream(), max_files=_MAX_FILES, max_fields=_MAX_FILE_FIELDS, max_part_size=MAX_FORM_BYTES
    )
    try:
        parts = await parser.parse()
    except (MultiPartException, ValueError, KeyError):
        return None
    values: dict[str, list[str]] = {}
    files: dict[str, PostedFile] = {}
    for name, value in parts.multi_items():
        if isinstance(value, UploadFile):
            files[name] = PostedFile(value.filename or "", await value.read())
        else:
            values.setdefault(name, []).append(value.replace("\x00", ""))
    await parts.close()
    return PostedForm(values, files)


async def read_form(request: Request, max_bytes: int, *, takes_file: bool = False) -> PostedForm | None:
    """Read the form in a request's body, or return `None` where it exceeds a bound; with a file where it may have one.

    Raises starlette's `ClientDisconnect` when the client goes away meanwhile.
    """
    body = await read_body(request, max_bytes)
    if body is None:
        return None
    if takes_file and request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await _read_multipart(request, body)
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:  # more fields than the bound
        return None
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        # PostgreSQL takes no NUL in a text, so none goes further than this
        values.setdefault(name, []).append(value.replace("\x00", ""))
    return PostedForm(values)
