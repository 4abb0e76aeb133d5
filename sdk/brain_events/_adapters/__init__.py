"""What the adapters at the top of the package share, and what only one of them needs at run time.

May import the client and the standard library. Must not import a framework before the application has.
"""
