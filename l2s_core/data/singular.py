"""Names in the singular: GQA names what it shows many of in the plural, and "a trees" is no prompt."""

from __future__ import annotations

from collections.abc import Callable

from l2s_core.errors import UserError

KEPT = ("bus", "buses")  # as the paper keeps them; and all that ends in "ss"


def singular_names() -> Callable[[str], str]:
    """Return what turns a name into its singular, by inflect's rules; raises UserError where that is not installed."""
    try:
        import inflect
    except ImportError:
        raise UserError(
            "data.names is singular, and plurals are read with a package that is not installed; get it with "
            "\"pip install -e '.[wordnet]'\", or set data.names to as-is"
        ) from None
    engine = inflect.engine()

    def singular(name: str) -> str:
        if name.endswith("ss") or name in KEPT:
            return name
        return str(engine.singular_noun(name) or name)

    return singular


def as_is(name: str) -> str:
    """Return a name as it is."""
    return name
