"""Parts of the adapters at the top of the package.

May import `_record`, `context` and the standard library. Must not import a framework at module level.
"""
