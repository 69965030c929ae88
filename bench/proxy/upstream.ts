import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { CLIENT_CORE } from './wrk.ts';

/** 1 KiB, as quickly as Node can: what it costs is nobody's figure. */
const PROGRAM = `
const body = 'x'.repeat(1024);
const answer = Buffer.from('HTTP/1.1 200 OK\\r\\ncontent-type: text/plain\\r\\ncontent-length: 1024\\r\\n\\r\\n' + body);
const server = require('node:net').createServer((socket) => {
  let rest = '';
  socket.setNoDelay(true);
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    rest += chunk.toString('latin1');
    for (let end = rest.indexOf('\\r\\n\\r\\n'); end >= 0; end = rest.indexOf('\\r\\n\\r\\n')) {
      rest = rest.slice(end + 4);
      socket.write(answer);
    }
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
`;

/** An upstream on the client's core, with a port of its own. */
export async function startUpstream(): Promise<{ port: number; stop: () => Promise<void> }> {
  const child: ChildProcess = spawn(
    'taskset',
    ['-c', `${CLIENT_CORE}`, process.execPath, '-e', PROGRAM],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  if (!child.stdout) throw new Error('it has no stdout');
  const [port] = await once(createInterface({ input: child.stdout }), 'line');
  return {
    port: Number(port),
    async stop() {
      const gone = once(child, 'exit');
      child.kill();
      await gone;
    },
  };
}
