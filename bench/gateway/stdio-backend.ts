import { createInterface } from 'node:readline';
import { reply } from './replies.ts';

// The same server on stdin and stdout, for the peers, which start theirs.
createInterface({ input: process.stdin }).on('line', (line) => {
  const answer = reply(Object(JSON.parse(line)));
  if (answer) process.stdout.write(`${JSON.stringify(answer)}\n`);
});
