"""`python -m webapp`: the `stripemeter` command where the package is not installed."""

from webapp.cli import main

main()
