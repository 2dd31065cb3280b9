// Talks to the server: JSON in, JSON or server-sent events out. Nothing here touches the page.

export class ServerError extends Error {
  constructor(status, message, hint) {
    super(message);
    Object.assign(this, { status, hint });
  }
}

async function send(path, body, signal) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
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
  throw new ServerError(response.status, error.message || `The server answered ${response.status}`, error.cure || "");
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
