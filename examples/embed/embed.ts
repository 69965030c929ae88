import { connect } from '#sdk';

// Runs what nobody trusts yet, in a fresh sandbox of the mesh that `npm start` started for this user.
const outrider = connect();
const code = 'import platform; print("hello from", platform.node(), 6 * 7)';
const { stdout, killedBy, exitCode, wallMs } = await outrider.run(code, { timeoutMs: 10_000 });
outrider.close();

process.stdout.write(stdout);
process.stdout.write(`ended by ${killedBy} with ${exitCode} after ${wallMs.toFixed(0)} ms\n`);
