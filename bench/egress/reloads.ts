import { rmSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import type { Group } from '../group.ts';
import { type Attached, BenchSidecar, HOSTS, policyText, projection } from './door.ts';
import { type Load, wrk } from './load.ts';
import { startOrigin } from './origin.ts';
import { benchDirectory, freePorts, Undo } from './processes.ts';

const RELOADS = 1_000;
const CONNECTIONS = 32;
const LOAD_SECONDS = 12;
const PATH = '/v1/items';

/**
 * A thousand newer policies for one exec while its requests come as fast as they are answered: every one under a digest of its own, every
 * tenth with other rules for the role. Then one without the rule that the requests need, and how long until they are refused.
 */
export const reloads: Group = {
  figures: ['reloads_dropped', 'reload_ms', 'tighten_ms'],
  async measure() {
    const directory = benchDirectory();
    const undo = new Undo();
    undo.add(() => rmSync(directory, { recursive: true, force: true }));
    try {
      const [originPort = 0, port = 0] = await freePorts(2);
      const origin = await startOrigin(join(directory, 'origin'), originPort, undo);
      const sidecar = await BenchSidecar.start(join(directory, 'sidecar'), origin.proxy);
      undo.add(() => sidecar.stop());
      const variants = await Promise.all(
        ['', rule('one'), rule('two')].map((further, index) =>
          projection(join(directory, `policies-${index}`), policyText(further)),
        ),
      );
      const [first] = variants;
      if (!first) throw new OutriderError('INTERNAL', 'the first is there');
      const attached = await sidecar.attach(first, port);
      const load = loadOf(directory, port);
      const from = performance.now();
      for (let number = 0; number < RELOADS; number++) {
        const policy = variants[number % 10 === 9 ? 1 + (number % 20 > 9 ? 1 : 0) : 0]?.policy;
        await attached.tighten({ policy: policy ?? first.policy, digest: digestOf(number) });
      }
      const reloadMs = (performance.now() - from) / RELOADS;
      const { requests, failed } = await load;
      const shut = await projection(
        join(directory, 'shut'),
        policyText().replace(`hosts: [${HOSTS.plain}]`, 'hosts: [other.bench.test]'),
      );
      return {
        reloads_dropped: failed,
        reload_ms: reloadMs,
        reloads: RELOADS,
        reload_requests: requests,
        tighten_ms: await untilRefused(attached, shut, port),
      };
    } finally {
      await undo.all();
    }
  },
};

function loadOf(directory: string, port: number): Promise<Load> {
  return wrk({
    directory,
    connections: CONNECTIONS,
    seconds: LOAD_SECONDS,
    url: `http://127.0.0.1:${port}${PATH}`,
    target: `http://${HOSTS.plain}${PATH}`,
    host: HOSTS.plain,
  });
}

function rule(name: string): string {
  return `    - {id: ${name}, hosts: [${name}.bench.test], protocols: [tunnel]}\n`;
}

function digestOf(number: number): string {
  return number.toString(16).padStart(64, '0');
}

async function untilRefused(
  attached: Attached,
  shut: { policy: Buffer; digest: string },
  port: number,
): Promise<number> {
  if ((await statusAt(port)) !== 200)
    throw new OutriderError('INTERNAL', 'it was to be open before');
  const from = performance.now();
  const tightened = attached.tighten(shut);
  while ((await statusAt(port)) !== 403);
  const took = performance.now() - from;
  await tightened;
  return took;
}

function statusAt(port: number): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const path = `http://${HOSTS.plain}${PATH}`;
    const headers = { host: HOSTS.plain };
    get({ host: '127.0.0.1', port, path, headers }, (response) => {
      response.resume().once('end', () => resolve(response.statusCode));
    }).once('error', reject);
  });
}
