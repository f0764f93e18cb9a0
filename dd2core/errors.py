"""The one exception a user is meant to read: a single sentence that says what to do."""


class DD2Error(ValueError):
    """Bad input, a missing or broken file, or a request that cannot be met.

    Command lines and the page print its message without a traceback.
    """
