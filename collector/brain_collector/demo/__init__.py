"""The demo: a collector, and an application that sends events to it through every adapter of the SDK.

May import `server` and everything below it, and the SDK: it is the only part of the collector that is an application.
Must not be imported by anything but the command line.
"""
