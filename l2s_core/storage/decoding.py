"""From bytes to text and JSON: the one account of what may be wrong with them.

A byte order mark, which some editors write, is left out. What is no UTF-8, no JSON, too deep for the parser, or holds
half a character is refused with one reason in one line.
"""

from __future__ import annotations

import codecs
import json
from typing import Any

BOM = codecs.BOM_UTF8
_SURROGATE = b"\\ud"  # begins a JSON escape of half a character, and of characters beyond the first 65,536


def decode_text(data: bytes) -> str:
    """Return UTF-8 bytes as text, without a byte order mark; raises ValueError saying which byte is none."""
    try:
        return data.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8: byte {error.start} is {data[error.start]:#04x}") from None


def decode_json(data: bytes) -> Any:
    """Return the value of UTF-8 bytes of JSON; raises ValueError, one line, for anything else."""
    text = decode_text(data)
    try:
        value = json.loads(text)
        if _SURROGATE in data.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    except UnicodeEncodeError:
        raise ValueError("JSON with half a character") from None
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from None
    return value
