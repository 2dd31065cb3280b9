"""The exception tree. The CLI prints a `GatsbyError` as one line; any other exception is a bug and has a traceback.

GatsbyError            exit 1: what happened, why, and the command that fixes it
  UsageError           exit 2: a value outside its range
    TopicError         exit 2: a topic that cannot be in a prime
  CorpusError          exit 1: a corpus file or manifest that cannot be read
  CheckpointError      exit 1: a checkpoint folder that cannot be used
  WriterError          exit 1: a model or server that cannot write stories
  TrainingError        exit 1: a run that cannot continue (non-finite loss, too little data)
  RanksError           exit 1: processes under mlx.launch that cannot connect, or one that is lost
  OutputError          exit 1: an output folder or disk that cannot be written
  DeviceError          exit 1: a GPU or a memory that gave out in the middle of work
  HubError             exit 1: the hub does not have it, does not give access, or cannot be reached
  ExhibitError         exit 1: a page that cannot be served (port in use, another machine's address)
  BenchError           exit 1: a benchmark that cannot measure (no PyTorch, no memory, a peer that died)
    ParityError        exit 1: MLX and PyTorch do not compute the same results
"""

import re


def without_passwords(text: str) -> str:
    """Return `text` with the name and the password of every address in it hidden.

    >>> without_passwords("http://me:secret@localhost:1234#gemma")
    'http://USER:PASSWORD@localhost:1234#gemma'
    """
    return re.sub(r"(?<=://)[^\s/?#]*@", "USER:PASSWORD@", text)


def foreign_words(text: object, limit: int = 200) -> str:
    """Return what another program said as one printable line of at most `limit` characters, without passwords.

    >>> foreign_words("Out of memory.\\n\\x1b[31mhelp")
    'Out of memory. [31mhelp'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    line = without_passwords(line).rstrip(".")
    return line if len(line) <= limit else line[: limit - 3] + "..."


class GatsbyError(Exception):
    """An error that the user can fix.

    `str(error)` is one sentence: what happened and why. `hint` is a command or an action that helps; it is shown after
    the sentence.

    >>> UsageError("There is no preset 'huge'", "Choose one of story, small").line()
    "There is no preset 'huge'. Choose one of story, small"
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.hint = hint

    def line(self) -> str:
        """Return message and hint as one line."""
        text = f"{self}. {self.hint}" if self.hint else str(self)
        return " ".join(text.split())


class UsageError(GatsbyError):
    exit_code = 2


class TopicError(UsageError):
    pass


class CorpusError(GatsbyError):
    pass


class CheckpointError(GatsbyError):
    pass


class WriterError(GatsbyError):
    pass


class TrainingError(GatsbyError):
    pass


class RanksError(GatsbyError):
    pass


class OutputError(GatsbyError):
    pass


class DeviceError(GatsbyError):
    pass


class HubError(GatsbyError):
    pass


class ExhibitError(GatsbyError):
    pass


class BenchError(GatsbyError):
    pass


class ParityError(BenchError):
    pass
