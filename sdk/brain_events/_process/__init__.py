"""The process around the client: its ends and forks, events before `init` and after exit, what nobody catches.

May import everything in the SDK except adapters, doctor and testing. Importing it must not start anything.
"""
