"""QR codes of links, as SVG and PNG.

Owns their size and margin; what a link is, is `connectors.domain.receipt_links`'.
"""

from __future__ import annotations

import io

import segno

_MARGIN = 4  # modules, which readers ask for
_PNG_MODULE = 8  # pixels of one module: sharp on a printer of 203 dots an inch at 4 cm


def qr_svg(text: str) -> bytes:
    """Return a text's QR code as an SVG that fits whatever box it is put in."""
    file = io.BytesIO()
    _code(text).save(file, kind="svg", border=_MARGIN, xmldecl=False, omitsize=True, light="#ffffff")
    return file.getvalue()


def qr_png(text: str) -> bytes:
    """Return a text's QR code as a PNG."""
    file = io.BytesIO()
    _code(text).save(file, kind="png", border=_MARGIN, scale=_PNG_MODULE)
    return file.getvalue()


def _code(text: str) -> segno.QRCode:
    # a thermal printer drops dots: a quarter of the code may be unreadable
    return segno.make(text, error="q", micro=False, boost_error=False)
