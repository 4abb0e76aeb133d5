"""Pages of events, newest first."""

from brain_collector.query.cursor import Page, Position, position_of
from brain_collector.query.filter import Filter
from brain_collector.read import search
from brain_collector.read.store import Store


async def page(store: Store, wanted: Filter, *, limit: int, offset: int = 0, after: Position | None = None) -> Page:
    """Return up to `limit` events, newest first. With words, they may be fewer although there is a next page.

    Raises:
        QueryTooBroad: it took too long.
        Unavailable: the database is; or the search in what was there before there was one.
    """
    if wanted.words is not None:
        return await search.search(store, wanted, wanted.words, limit, after)
    found = await store.page(wanted, limit=limit + 1, offset=offset, after=after)
    return Page(found[:limit], position_of(found[limit - 1]) if len(found) > limit else None)
