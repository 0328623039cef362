// The page's one connection: events as they come, and why there are none.

const RETRY_MS = 2000;
const REFUSED_MS = 10000;

const REASONS = {
  401: "The token is no longer valid: it was changed.",
  403: "This page may not be seen from here any more.",
};

async function* read(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/, 2)));
      yield [fields.event, JSON.parse(fields.data)];
    }
  }
}

// Not an EventSource: that doesn't say why it was refused.
export class Stream {
  constructor(handlers, { onOpen, onRefused, onLost }) {
    this.handlers = handlers;
    this.on = { onOpen, onRefused, onLost };
    this.close = () => {};
  }

  // Begin anew; `query` gives the parameters of each attempt.
  open(query) {
    this.close();
    const abort = new AbortController();
    let timer;
    const attempt = async () => {
      const afterMs = await this.follow(query(), abort.signal);
      if (!abort.signal.aborted) timer = setTimeout(attempt, afterMs);
    };
    this.close = () => {
      abort.abort();
      clearTimeout(timer);
    };
    attempt();
  }

  // One attempt; when to try again.
  async follow(query, signal) {
    try {
      const response = await fetch(`/performance/stream?${new URLSearchParams(query)}`, { signal });
      if (!response.ok) return await this.explain(response, signal);
      for await (const [name, data] of read(response)) {
        if (signal.aborted) return 0;
        this.on.onOpen();
        this.handlers[name]?.(data);
      }
    } catch (error) {
      if (!signal.aborted && !(error instanceof TypeError)) throw error;
    }
    if (!signal.aborted) this.on.onLost();
    return RETRY_MS;
  }

  async explain(response, signal) {
    const found = await response.json().catch(() => ({ detail: response.statusText }));
    if (!signal.aborted) this.on.onRefused(response.status, REASONS[response.status] ?? `${found.detail}.`);
    return Number(response.headers.get("retry-after") ?? 0) * 1000 || REFUSED_MS;
  }
}
