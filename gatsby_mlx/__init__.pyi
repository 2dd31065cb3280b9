"""The public names, for type checkers; `__init__.py` loads them when they are used."""

from gatsby_mlx.api import DialReading as DialReading
from gatsby_mlx.api import Model as Model
from gatsby_mlx.api import ToldStory as ToldStory
from gatsby_mlx.api import TrainedRun as TrainedRun
from gatsby_mlx.api import dial as dial
from gatsby_mlx.api import import_stories as import_stories
from gatsby_mlx.api import load as load
from gatsby_mlx.api import report as report
from gatsby_mlx.api import train as train
from gatsby_mlx.api import train_events as train_events
from gatsby_mlx.api import write as write
from gatsby_mlx.corpus.blend import Blend as Blend
from gatsby_mlx.corpus.import_ import Imported as Imported
from gatsby_mlx.corpus.load import Corpus as Corpus
from gatsby_mlx.errors import BenchError as BenchError
from gatsby_mlx.errors import CheckpointError as CheckpointError
from gatsby_mlx.errors import CorpusError as CorpusError
from gatsby_mlx.errors import DeviceError as DeviceError
from gatsby_mlx.errors import ExhibitError as ExhibitError
from gatsby_mlx.errors import GatsbyError as GatsbyError
from gatsby_mlx.errors import HubError as HubError
from gatsby_mlx.errors import OutputError as OutputError
from gatsby_mlx.errors import ParityError as ParityError
from gatsby_mlx.errors import RanksError as RanksError
from gatsby_mlx.errors import TopicError as TopicError
from gatsby_mlx.errors import TrainingError as TrainingError
from gatsby_mlx.errors import UsageError as UsageError
from gatsby_mlx.errors import WriterError as WriterError
from gatsby_mlx.story.obsession import Obsession as Obsession

__version__: str
