"""The command line: `tenure COMMAND …`.

Idea. A command is a thin shell: it reads its options, asks the cluster through `tenure.client`, and prints. What it
prints for people is a table or a sentence; with `--json` it is one JSON object (or one a line, where it goes on),
with the names of API.md. Everything that can go wrong has an exit code of its own (`exits`), and its text ends with
the next step.

`main` knows the commands by name and first line only; a command's module, and what it needs, is loaded when the command
runs. So `tenure --help` is quick, and `tenure status` loads no server.
"""
