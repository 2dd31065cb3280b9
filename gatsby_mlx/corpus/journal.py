"""The journal: a SQLite file in the output folder with the plan and one row for each attempt.

It uses WAL with full sync (on macOS F_FULLFSYNC), so what was committed survives a SIGKILL and a power cut. One process
writes a journal at a time: the lock is a file lock, which ends with the process. Others may read meanwhile.
"""

import contextlib
import fcntl
import json
import os
import shlex
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

from gatsby_mlx import files
from gatsby_mlx.corpus.ledger import Attempt, Key
from gatsby_mlx.errors import OutputError, UsageError

VERSION = 1
FIELDS = [f.name for f in fields(Attempt)]
NAME = "journal.sqlite3"


def path_of(out: Path, rank: int = 0) -> Path:
    """Return the journal's path. Each rank has a journal, since several machines may share a disk."""
    return out / (NAME if rank == 0 else f"journal.rank{rank}.sqlite3")


def belongs(name: str) -> bool:
    """Return whether a file of the output folder belongs to a journal."""
    return name.startswith("journal.") and ".sqlite3" in name


class Journal:
    """An open journal. Use it in a `with` block. `write=False` reads one that another process may be writing.

    Raises OutputError if there is no journal to read, another process writes it, the file is damaged or the disk full.
    """

    def __init__(self, out: Path, rank: int = 0, write: bool = True):
        self.path, self._lock = path_of(out, rank), None
        with files.output_errors(str(out)):
            if write:
                out.mkdir(parents=True, exist_ok=True)
                self._lock = _locked(self._lock_path, out)
            elif not self.path.is_file():
                raise OutputError(f"There is no journal in {out}", "Start with: gatsby write --out DIR")
        with contextlib.ExitStack() as undo:
            undo.callback(self._unlock)
            with self._errors():
                mode = "rwc" if write else "ro"
                self._db = sqlite3.connect(f"file:{_quoted(self.path)}?mode={mode}", uri=True, isolation_level=None)
                undo.callback(self._db.close)
                if write:
                    self._prepare()
                self._check()
            undo.pop_all()

    def _prepare(self) -> None:
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "PRAGMA fullfsync = 1",
            "PRAGMA checkpoint_fullfsync = 1",
        ):
            self._db.execute(statement)
        with self._transaction():
            if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
                columns = ", ".join(FIELDS)
                self._db.execute("CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
                self._db.execute(f"CREATE TABLE attempts ({columns}, PRIMARY KEY (topic, level, attempt))")
                self._db.execute(f"PRAGMA user_version = {VERSION}")
            for column in FIELDS:  # a journal of an earlier version lacks what attempts have gained since
                if column not in self._columns():
                    self._db.execute(f"ALTER TABLE attempts ADD COLUMN {column}")

    def _columns(self) -> list[str]:
        return [row[1] for row in self._db.execute("PRAGMA table_info(attempts)")]

    def _check(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            raise OutputError(f"{self.path} has version {version}, and this gatsby reads {VERSION}", self._hint())
        problem = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)

    def _hint(self) -> str:
        move = shlex.join(["mv", str(self.path), f"{self.path}.old"])
        return f"Move it away ({move}) and write again, or choose another --out"

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                message = f"cannot write {self.path}: {error}"
                raise OutputError(message, "Free some space on that disk; the same command resumes") from error
            raise OutputError(f"The journal {self.path} is damaged: {error}", self._hint()) from error

    @contextlib.contextmanager
    def checked(self) -> Iterator[None]:
        """Report the journal as damaged if the block cannot use what it has read from it. Raises OutputError."""
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, UsageError) as error:
            message = f"The journal {self.path} is damaged: it has content that gatsby does not write ({error!r})"
            raise OutputError(message, self._hint()) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._unlock()

    def delete(self) -> None:
        """Close the journal and delete it."""
        self._db.close()
        for path in (self.path, *self.path.parent.glob(f"{self.path.name}-*"), self._lock_path):
            path.unlink(missing_ok=True)
        self._unlock()

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def get(self, key: str) -> Any:
        """Return the value that `set` stored under `key`, or None."""
        with self._errors(), self.checked():
            row = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
            return None if row is None else json.loads(row[0])

    def set(self, key: str, value: Any) -> None:
        """Store a JSON value under `key`, replacing the previous one."""
        with self._errors(), self._transaction():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, json.dumps(value)))

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Store attempts, in one transaction; an attempt that is stored already does not change."""
        names, marks = ", ".join(FIELDS), ", ".join("?" * len(FIELDS))
        with self._errors(), self._transaction():
            self._db.executemany(f"INSERT OR IGNORE INTO attempts ({names}) VALUES ({marks})", map(_row, attempts))

    def set_failed(self, failures: Iterable[tuple[Key, tuple[str, ...]]]) -> None:
        """Store the gates that attempts failed, replacing those stored before, in one transaction."""
        statement = "UPDATE attempts SET failed = ? WHERE topic = ? AND level = ? AND attempt = ?"
        with self._errors(), self._transaction():
            self._db.executemany(statement, [(json.dumps(failed), *key) for key, failed in failures])

    def attempts(self) -> list[Attempt]:
        """Return all attempts, in the order in which they were stored."""
        with self._errors(), self.checked():
            known = set(self._columns())
            columns = ", ".join(name if name in known else f"NULL AS {name}" for name in FIELDS)
            rows = self._db.execute(f"SELECT {columns} FROM attempts ORDER BY rowid").fetchall()
            return [_attempt(row) for row in rows]


def _locked(path: Path, out: Path) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise OutputError(f"Another gatsby is writing to {out}", "Wait for it, or choose another --out") from None
        with contextlib.suppress(FileNotFoundError):  # another process may have deleted it before we locked it
            if os.fstat(fd).st_ino == os.stat(path).st_ino:
                return fd
        os.close(fd)


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.absolute()))


def _row(attempt: Attempt) -> tuple:
    return tuple(json.dumps(v) if isinstance(v := getattr(attempt, k), tuple) else v for k in FIELDS)


def _attempt(row: tuple) -> Attempt:
    attempt = Attempt(*row)
    return replace(attempt, failed=tuple(json.loads(row[FIELDS.index("failed")])))
