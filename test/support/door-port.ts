import { connect, createServer, type Socket } from 'node:net';

/** A door as a program in a sandbox has it: at a port of loopback, which the agent's relay leads to the sidecar's socket. */
export async function openDoorPort(
  door: string,
): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (program) => {
    const sidecar = connect({ path: door, allowHalfOpen: true });
    for (const [from, to] of [
      [program, sidecar],
      [sidecar, program],
    ] as const) {
      open.add(from);
      from.on('error', () => to.destroy());
      from.once('close', () => {
        open.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP listener');
  return {
    url: `http://127.0.0.1:${address.port}`,
    close: async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
