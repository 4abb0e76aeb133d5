"""Assemble the collector and run it: engines, application, lifespan, uvicorn.

The only place where long-lived tasks start and end, and where the wings meet.
May import every wing but `cli`, `demo`, `doctor` and `reference`. Must not make a decision that a wing could make.
"""
