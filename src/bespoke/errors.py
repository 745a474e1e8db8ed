"""What went wrong and what to do about it, in words for the person who can."""


class BespokeError(Exception):
    """A problem that the person can mend: `problem` says what is wrong, `hint` what to do.

    The command line prints both and leaves with code 2; an HTTP service maps the same object to a response.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint

    def __str__(self) -> str:
        return f"{self.problem}\n{self.hint}" if self.hint else self.problem


class Interrupted(Exception):  # noqa: N818 - it is an event, not an error
    """A signal ended the work after everything was saved; `code` is the exit code a shell expects (130, 143)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
