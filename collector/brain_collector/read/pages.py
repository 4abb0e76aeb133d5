"""Pages of events, newest first: with search terms from the search, otherwise straight from the store."""

from brain_collector.query.cursor import Page, Position
from brain_collector.query.filter import Filter
from brain_collector.read import search
from brain_collector.read.store import Store


async def page(
    store: Store, filter: Filter, *, limit: int, max_bytes: int, offset: int = 0, after: Position | None = None
) -> Page:
    """Return the newest events: at most `limit`, and at most `max_bytes` together, but at least one.

    A search may return fewer, or none, although there is a next page.

    Raises:
        QueryTooBroad: the query took too long.
        Unavailable: the database is unavailable; or the search needs events that are not indexed yet.
    """
    if filter.words is not None:
        return await search.search(store, filter, filter.words, limit=limit, max_bytes=max_bytes, after=after)
    return await store.page(filter, limit=limit, max_bytes=max_bytes, offset=offset, after=after)
