"""Background jobs: `scheduler` lists the jobs, `loop` repeats them, and each has a file.

`fold`, `index` and the pruning of `maintenance` are done by one collector at a time, which holds a lock; `monitor`,
`survey` and `canary_check` only observe, on every collector, and `epoch_watch` records changes of the server.
`kill -9` at any point is safe; a lost database only postpones a job.
May import every wing below it but `http` and `access`. Must not be waited for by a request.
"""
