"""Identity by content: sha256 over type-tagged, length-prefixed parts under a scheme tag.

Parts may be None, bool, int, str, bytes and tuples of parts; two different trees of parts never
give the same bytes, so they never share a digest (short of a collision of sha256).
"""

import hashlib

SCHEME = "fs1"

Part = None | bool | int | str | bytes | tuple["Part", ...]


def encode(part: Part) -> bytes:
    """Give the injective bytes of a tree of parts: a type letter, a length, the content."""
    match part:
        case None:
            tag, body = b"n", b""
        case bool():
            tag, body = b"b", b"1" if part else b"0"
        case int():
            tag, body = b"i", str(part).encode()
        case str():
            tag, body = b"s", part.encode("utf-8", "surrogatepass")
        case bytes():
            tag, body = b"y", part
        case tuple():
            tag, body = b"t", b"".join(encode(inner) for inner in part)
    return tag + len(body).to_bytes(8, "big") + body


def digest(kind: str, *parts: Part) -> str:
    """Give the sha256 of a kind and its parts as 64 hex digits."""
    return hashlib.sha256(encode((SCHEME, kind, *parts))).hexdigest()
