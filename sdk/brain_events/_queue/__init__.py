"""What waits for delivery: buffer, sealed batches, the durable journal, the outbox and its adoption.

May import `_record`'s results as bytes only. Must not know HTTP, nor how a batch is sent.
"""
