"""The demo of the sandbox: a tenant `demo` with customers whom the stand-in for Stripe bills.

It comes in from outside, as a user's code would: over the product's HTTP API, over Stripe's, and
through the operator's command line. `data` makes what there is, `site` is the page with the
buttons; neither imports the product.
"""

TENANT = "demo"
