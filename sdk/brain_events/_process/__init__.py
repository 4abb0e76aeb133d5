"""The process around the client: the default client, exit hooks, forks, events before `init` and after exit.

May import everything in the SDK but adapters, doctor and testing. Must not do anything at import.
"""
