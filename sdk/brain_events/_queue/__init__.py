"""Events that wait for delivery: the journals, the buffer, sealed batches, the outbox and its adoption.

May import `wire` and the standard library; events arrive here as encoded lines. Must not know HTTP or the collector.
"""
