import { createServer, type Socket } from 'node:net';
import { listen } from '#core/http';

/** A unix socket on which everybody hears what everybody else writes. It stands for the pub/sub that replicas of one server share. */
export async function eventHub(path: string): Promise<{ close(): Promise<void> }> {
  const members = new Set<Socket>();
  const server = createServer((socket) => {
    members.add(socket);
    socket.on('data', (chunk: Buffer) => {
      for (const member of members) if (member !== socket) member.write(chunk);
    });
    socket.on('error', () => {}).on('close', () => members.delete(socket));
  });
  await listen(server, { kind: 'unix', path });
  return {
    async close() {
      for (const member of members) member.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
