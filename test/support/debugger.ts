import assert from 'node:assert/strict';

/** Where Node processes that were started with `--inspect=127.0.0.1:0` say, on stderr, that their debuggers listen. */
export function debuggersIn(log: string): string[] {
  return [...log.matchAll(/ws:\/\/127\.0\.0\.1:\d+\/[0-9a-f-]+/g)].map(([url]) => url);
}

/** Evaluates an expression inside the process behind a debugger's address, awaits it, and gives its value. */
export async function evaluateIn(url: string, expression: string): Promise<unknown> {
  const socket = new WebSocket(url);
  try {
    await heard(socket, 'open');
    const params = { expression, returnByValue: true, awaitPromise: true };
    socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params }));
    const event = await heard(socket, 'message');
    assert.ok(event instanceof MessageEvent && typeof event.data === 'string');
    const { result }: { result: { result: { value?: unknown } } } = JSON.parse(event.data);
    return result.result.value;
  } finally {
    socket.close();
  }
}

function heard(socket: WebSocket, what: 'open' | 'message'): Promise<Event> {
  return new Promise((resolve, reject) => {
    socket.addEventListener(what, resolve, { once: true });
    socket.addEventListener('error', () => reject(new Error('the debugger does not answer')));
  });
}
