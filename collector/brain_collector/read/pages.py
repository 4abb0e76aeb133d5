"""Pages of events, newest first: with search terms from the search, otherwise straight from the store."""

from brain_collector.query.cursor import Page, Position, position_of
from brain_collector.query.filter import Filter
from brain_collector.read import search
from brain_collector.read.store import Store


async def page(store: Store, filter: Filter, *, limit: int, offset: int = 0, after: Position | None = None) -> Page:
    """Return up to `limit` events, newest first. A search may return fewer although there is a next page.

    Raises:
        QueryTooBroad: the query took too long.
        Unavailable: the database is unavailable; or the search needs events that are not indexed yet.
    """
    if filter.words is not None:
        return await search.search(store, filter, filter.words, limit, after)
    events = await store.page(filter, limit=limit + 1, offset=offset, after=after)
    return Page(events[:limit], position_of(events[limit - 1]) if len(events) > limit else None)
