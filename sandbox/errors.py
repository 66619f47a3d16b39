class SandboxError(Exception):
    """Something the user can put right; the text is all that is shown, without a traceback."""
