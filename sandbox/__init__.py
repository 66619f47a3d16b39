"""Everything StripeMeter needs to run on one machine: Postgres, Valkey, web, worker, clock.

Owns the state folder, `STRIPEMETER_HOME` (default `.local/`):

    postgres-18/          the data, in a folder named after the major version of Postgres
    postgres-data.txt     instead of it: where the data is, when Postgres may not enter the folder
    valkey/               Valkey's working folder; nothing in it is worth keeping
    logs/<name>.log       what each process printed; `.log.1` is the run before
    run/                  locks, `children.json`, metrics of the running processes

Does not own: what the processes do, nor their configuration (`webapp/config.py`). Nothing in
production imports this package.
"""
