"""Base of objects with settings, on which a misspelt setting is an error."""

from __future__ import annotations

from difflib import get_close_matches

__all__ = ["FixedAttributes"]


class FixedAttributes:
    """Refuses to set public attributes that the class neither defines nor annotates."""

    def __setattr__(self, name: str, value: object) -> None:
        known = {one for base in type(self).__mro__ for one in (*vars(base), *_annotated(base))}
        if not name.startswith("_") and name not in known:
            kind = type(self).__name__
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise AttributeError(f"a {kind} has no setting {name}{hint}", name=name, obj=self)
        super().__setattr__(name, value)


def _annotated(base: type) -> dict[str, object]:
    annotations: dict[str, object] = vars(base).get("__annotations__", {})
    return annotations
