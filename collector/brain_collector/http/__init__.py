"""From sockets to requests: connections, limits of heads and bodies, admission, draining, the request log.

Holds the bounds that uvicorn lacks, and the context of each request (`scope`).
May import the ground floor only. Must not know API keys, endpoints, or what is stored.
"""
