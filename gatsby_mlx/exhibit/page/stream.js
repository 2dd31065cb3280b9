// The way to the server: JSON in, JSON or server-sent events out. Nothing here touches the page.

export class Refusal extends Error {
  constructor(status, message, cure, retryAfter) {
    super(message);
    Object.assign(this, { status, cure, retryAfter });
  }
}

async function send(path, body, signal) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (answer.ok) return answer;
  let error = {};
  try {
    error = (await answer.json()).error;
  } catch {
    // not ours: a proxy's page, or nothing at all
  }
  const after = Number(answer.headers.get("retry-after")) || 0;
  throw new Refusal(answer.status, error.message || `The server answered ${answer.status}`, error.cure || "", after);
}

export async function ask(path, body, signal) {
  return (await send(path, body, signal)).json();
}

export async function state() {
  const answer = await fetch("/api/state", { signal: AbortSignal.timeout(4000) });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
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
