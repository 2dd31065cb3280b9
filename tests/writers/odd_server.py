"""Stand-ins for OpenAI-style servers that behave oddly, each a function of the request. No answer is a real model's."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STORY = "Mia had a cat. The cat sat by the door."
MODELS = {"object": "list", "data": [{"id": "qwen3-8b"}]}
# What a server answers: a status, a JSON value or raw bytes, and headers.
Reply = tuple[int, Any, dict[str, str]]


def ok(content: Any = STORY, finish: Any = "stop", usage: Any = None, **message: Any) -> Reply:
    """Return a chat completion; `message` holds more fields of it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return 200, {"choices": [choice], "usage": usage or {"prompt_tokens": 10, "completion_tokens": 20}}, {}


def error(status: int, message: str, **headers: str) -> Reply:
    """Return an error in OpenAI's form."""
    return status, {"error": {"message": message}}, {name.replace("_", "-"): value for name, value in headers.items()}


class OddServer:
    """A running server: `chat(body, n)` answers the n-th POST, `models` is the list; `asked` has what was sent."""

    def __init__(self, chat: Callable[[dict, int], Reply | None], models: Any = MODELS, key: str = ""):
        self.chat, self.models, self.key = chat, models, key
        self.asked: list[dict] = []
        self.paths: list[str] = []
        self.authorizations: list[str | None] = []
        self.url = ""


@contextmanager
def serving(odd: OddServer) -> Iterator[OddServer]:
    """Serve on a free port of this machine while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, status: int, content: Any, headers: dict[str, str]):
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = True

        def refuses(self) -> bool:
            odd.paths.append(self.path)
            odd.authorizations.append(self.headers.get("Authorization"))
            if odd.key and self.headers.get("Authorization") != odd.key:
                self.answer(*error(401, f"No such key: {self.headers.get('Authorization')}"))
                return True
            return False

        def do_GET(self):
            if not self.refuses():
                self.answer(*(odd.models if isinstance(odd.models, tuple) else (200, odd.models, {})))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.refuses():
                return
            odd.asked.append(body)
            reply = odd.chat(body, len(odd.asked))
            if reply is None:
                self.close_connection = True
            else:
                self.answer(*reply)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.handle_error = True, lambda *_: None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    odd.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield odd
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
