import { once } from 'node:events';

/**
 * Makes a process collect all its garbage, over its inspector at this address, and resolves to what is then left on its heap, in
 * MiB: what it keeps.
 */
export async function keptMib(url: string): Promise<number> {
  const socket = new WebSocket(url);
  await once(socket, 'open');
  // Twice: what the first finds unreachable may have held more by finalizers.
  await ask(socket, 'HeapProfiler.collectGarbage');
  await ask(socket, 'HeapProfiler.collectGarbage');
  const answer = await ask(socket, 'Runtime.getHeapUsage');
  const used = /"usedSize":(\d+)/.exec(answer)?.[1];
  const closed = once(socket, 'close');
  socket.close();
  await closed;
  return Number(used) / 2 ** 20;
}

async function ask(socket: WebSocket, method: string): Promise<string> {
  const answered = once(socket, 'message');
  socket.send(JSON.stringify({ id: 1, method }));
  const [event]: { data?: unknown }[] = await answered;
  return String(event?.data);
}
