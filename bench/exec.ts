import { join } from 'node:path';
import { connect, type Outrider } from '#sdk';
import { bareArguments, bwrapArguments, firstByteOf } from './floors.ts';
import { quantile, timed } from './measure.ts';
import { startBuilt } from './mesh.ts';

const ROUNDS = 60;
const PROGRAM = 'print(1)';
/**
 * From request to first output byte of a fresh single-use Python sandbox behind its sidecar, beside a bare `python3 -c` and
 * bubblewrap by hand in the same run, one after another in turns, so that a slow moment of the machine meets all of them.
 * `bwrap_python_p50_ms` runs as this user, without seccomp, limits or a door: it is a floor, not a peer.
 */
export async function execPart(): Promise<Record<string, number>> {
  const mesh = await startBuilt();
  const client = connect({ address: `unix:${join(mesh.place.runtime, 'runner.sock')}` });
  const samples = {
    warm: [] as number[],
    bare: [] as number[],
    bwrap: [] as number[],
    whole: [] as number[],
  };
  try {
    for (let round = 0; round < ROUNDS + 5; round++) {
      const counts = round >= 5;
      const warm = await firstByte(client);
      const bare = await firstByteOf(bareArguments(PROGRAM));
      const bwrap = await firstByteOf(bwrapArguments(PROGRAM));
      const whole = await timed(() => client.run(PROGRAM));
      await new Promise((resolve) => setTimeout(resolve, 100)); // the pool refills
      if (counts)
        for (const [name, value] of Object.entries({ warm, bare, bwrap, whole }))
          samples[name as keyof typeof samples].push(value); // oxlint-disable-line typescript/no-unsafe-type-assertion -- the same four names
    }
  } finally {
    client.close();
    await mesh.stop();
  }
  const bare = quantile(samples.bare, 0.5);
  const first = quantile(samples.warm, 0.5);
  return {
    exec_first_byte_p50_ms: first,
    exec_first_byte_p95_ms: quantile(samples.warm, 0.95),
    run_whole_p50_ms: quantile(samples.whole, 0.5),
    bare_python_p50_ms: bare,
    bwrap_python_p50_ms: quantile(samples.bwrap, 0.5),
    first_byte_over_bare: first / bare,
  };
}

async function firstByte(client: Outrider): Promise<number> {
  const from = performance.now();
  let first = 0;
  for await (const event of client.start(PROGRAM).events)
    if (event.stream === 'stdout') first ||= performance.now() - from;
  return first;
}
