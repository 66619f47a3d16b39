"""Where the demo finds the product and the stand-in: the arguments of its programs."""

import argparse

from sandbox.demo.http import Api, stripe


def parser(description: str | None) -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--web", required=True, help="the product's address")
    arguments.add_argument("--stripe", required=True, help="the stand-in's address")
    arguments.add_argument("--key", required=True, help="a test key of the stand-in's")
    return arguments


def apis(given: argparse.Namespace) -> tuple[Api, Api]:
    """The product and Stripe."""
    return Api(given.web), stripe(given.stripe, given.key)
