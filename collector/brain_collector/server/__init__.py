"""Assemble the collector and run it: engines, application, lifespan, uvicorn.

The only place where tasks start and end, and where the wings meet.
May import every wing but `cli`, `demo` and `doctor`. Must not contain a decision that a wing could make.
"""
