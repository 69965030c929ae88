import { connect, createServer } from 'node:net';
import { parseAddress, socketOptions } from '#core/address';

// `node bare-pipe.ts FROM TO`: what a hop of the way out does without all that makes it one: whatever comes is passed on.

const [from = '', to = ''] = process.argv.slice(2);
const next = socketOptions(parseAddress(to));
createServer({ noDelay: true }, (inward) => {
  const outward = connect({ ...next, noDelay: true });
  inward.pipe(outward).pipe(inward);
  inward.on('error', () => outward.destroy());
  outward.on('error', () => inward.destroy());
}).listen(socketOptions(parseAddress(from)));
