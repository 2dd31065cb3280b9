"""The exception tree. The CLI turns a `GatsbyError` into one line; everything else is a bug and keeps its traceback.

GatsbyError            exit 1: what happened, why, and the command that mends it
  UsageError           exit 2: a value outside its range
    TopicError         exit 2: a topic that cannot stand in a prime
  CorpusError          exit 1: a corpus file or manifest that cannot be read
  CheckpointError      exit 1: a checkpoint folder that cannot be used
  HubError             exit 1: the hub does not have it, does not open it, or cannot be reached
  OutputError          exit 1: an output folder or disk that cannot be written
  TrainingError        exit 1: a run that cannot go on (non-finite loss, too little data)
  ExhibitError         exit 1: a page that cannot be served (port in use, address not of this machine)
"""


class GatsbyError(Exception):
    """A mistake or a state of the world that a person can mend.

    `str(error)` is one sentence of what and why; `cure` is a command or an action, shown after it.
    """

    exit_code = 1

    def __init__(self, message: str, cure: str = ""):
        super().__init__(message)
        self.cure = cure

    def line(self) -> str:
        """Return message and cure as the one line that a person reads."""
        text = f"{self}. {self.cure}" if self.cure else str(self)
        return " ".join(text.split())


class UsageError(GatsbyError):
    exit_code = 2


class TopicError(UsageError):
    pass


class CorpusError(GatsbyError):
    pass


class CheckpointError(GatsbyError):
    pass


class HubError(GatsbyError):
    pass


class OutputError(GatsbyError):
    pass


class TrainingError(GatsbyError):
    pass


class ExhibitError(GatsbyError):
    pass


class WriterError(GatsbyError):
    pass
