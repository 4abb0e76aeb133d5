"""The URLs of the database and the cache: checked, parsed for their drivers, and masked for people.

`masking` returns the only form of a URL that may be printed or logged. `database_url` and `redis_url` parse URLs in
the forms that providers use, and refuse parts that the drivers would ignore or misread.
May import the shared files only. Must not connect to anything, nor quote a URL in an error: it may hold a secret.
"""
