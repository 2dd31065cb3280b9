// Talks to the server: JSON in, JSON or server-sent events out. Nothing here touches the page.

// One line of visitors is shared by address and by tab; this names the tab, for as long as it is open.
const visitor = [...crypto.getRandomValues(new Uint32Array(2))].map((n) => n.toString(16)).join("");

export class ServerError extends Error {
  // `wait` is the number of seconds after which to ask again, 0 if that would not help.
  constructor(status, message, hint, wait = 0) {
    super(message);
    Object.assign(this, { status, hint, wait });
  }
}

async function send(path, body, signal) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-visitor": visitor },
    body: JSON.stringify(body),
    signal,
  });
  if (response.ok) return response;
  let error = {};
  try {
    error = (await response.json()).error;
  } catch {
    // not from this server: a proxy's page, or an empty body
  }
  const wait = Number(response.headers.get("retry-after")) || 0;
  throw new ServerError(response.status, error.message || `The server answered ${response.status}`, error.cure || "", wait);
}

export async function ask(path, body, signal) {
  return (await send(path, body, signal)).json();
}

export async function state() {
  const response = await fetch("/api/state", { signal: AbortSignal.timeout(4000) });
  if (!response.ok) throw new Error(String(response.status));
  return response.json();
}

// Calls onEvent(name, data) for every event; resolves when the stream ends.
export async function listen(body, signal, onEvent) {
  const reader = (await send("/api/tell", body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    const blocks = held.split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      const [, name, data] = /^event: (.*)\ndata: (.*)$/.exec(block) || [];
      if (name) onEvent(name, JSON.parse(data));
    }
  }
}
