"""One member as a process: configuration, assembly, signals, and nothing else.

    config      one declarative table of options; flags > environment > TOML file; unknown keys are errors
    assembly    the one place that builds concrete things: clock, chance, store, disk thread, transport, engine, API
    joining     asks a cluster to take this member in (`--join`)
    serve       the life of the process: start, SIGHUP, SIGTERM (transfer first, serve until it is done), clean close
    notify      sd_notify in a few lines
    logs        one structured line per decision worth telling

What decides anything lives below, in packages that can be tested without a process.
"""
