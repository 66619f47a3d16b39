"""Lists with cursors: newest first, ten at a time unless told otherwise, at most a hundred."""

from collections.abc import Sequence

from sandbox.stripe.core import Json, StripeError, missing


def page(objects: Sequence[Json], params: Json, url: str) -> Json:
    """One page of the objects, which come in the order of the list.

    params: `limit`, `starting_after` and `ending_before`, as `params.check` reads them.
    """
    limit = int(params.get("limit") or 10)
    if not 1 <= limit <= 100:
        raise StripeError(400, "This value must be between 1 and 100.", param="limit")
    after, before = params.get("starting_after"), params.get("ending_before")
    if after and before:
        raise StripeError(400, "You cannot give both starting_after and ending_before.")
    chosen = list(objects)
    if before:
        chosen = chosen[: _place(chosen, before, "ending_before")]
        shown, more = chosen[-limit:], len(chosen) > limit
    else:
        if after:
            chosen = chosen[_place(chosen, after, "starting_after") + 1 :]
        shown, more = chosen[:limit], len(chosen) > limit
    return {"object": "list", "data": shown, "has_more": more, "url": url}


def _place(objects: Sequence[Json], id: str, param: str) -> int:
    for at, each in enumerate(objects):
        if each["id"] == id:
            return at
    raise missing("object", id, param)


def newest(objects: dict[str, Json]) -> list[Json]:
    return list(reversed(objects.values()))
