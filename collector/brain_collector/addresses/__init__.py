"""The URLs of the database and the cache: checked, parsed for their drivers, and masked for people.

`masking` makes a URL fit for output: the only form in which one may be printed or logged. `database_url` and
`redis_url` read the URLs as providers hand them out, and refuse what the drivers would ignore or misread.
May import the shared files only. Must not connect to anything, nor quote a URL in an error: it may hold a secret.
"""
