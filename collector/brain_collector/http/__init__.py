"""From sockets to requests: the connection, its limits, memory for bodies and responses, draining, the request log.

Adds the bounds that uvicorn lacks. `scope` is the context of each request, which the layers above fill in.
May import the shared files only. Must not know how access is decided, which endpoints there are, or what is stored.
"""
