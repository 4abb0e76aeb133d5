"""The process around the client: the process-wide client, exit hooks, forks, events before `init` and after exit.

May import everything in the SDK except adapters, doctor and testing. Importing it must not start anything.
"""
