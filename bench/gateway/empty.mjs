import { createServer } from 'node:http';

// What a Node process with an HTTP server weighs that does nothing. JavaScript, as dist/ is: what reads TypeScript weighs, too.
const server = createServer((_, response) => response.end());
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ address: `127.0.0.1:${server.address().port}` })}\n`);
});
