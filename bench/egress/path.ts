import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseAddress } from '#core/address';
import { OutriderError } from '#core/errors';
import { type RunnerMesh, startRunnerMesh } from '../../test/support/runner-mesh.ts';
import type { Group } from '../group.ts';
import { quantile } from '../measure.ts';
import { BODY_BYTES, startOrigin } from './origin.ts';
import { benchDirectory, CORES, freePorts, pin, run, start, Undo } from './processes.ts';

const ROUNDS = 7;
const WARM_UP_ROUNDS = 2;
/** Of one program. Its sidecar has just begun to work: what compiles its own code while it runs is not done with that at the first of them. */
const REQUESTS = 4_000;
const FIRST_REQUESTS = 1_000;

/** Kept GETs of 1 KiB over one connection, one after the other; prints how long each took, in microseconds. */
const CLIENT = `
import http.client, json, sys, time
host, port, path, count, length = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
connection = http.client.HTTPConnection(host, port, timeout=20)
took = []
for _ in range(count):
    begun = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, (answer.status, answer.read())
    assert len(answer.read()) == length
    took.append(round((time.perf_counter() - begun) * 1e6))
print(json.dumps(took))
`;

/** Microseconds of requests. */
type Samples = Record<'first' | 'inside' | 'direct' | 'floor', number[]>;

/**
 * What the whole way out adds to a request: program in a sandbox, relay, sidecar, proxy, origin, against the same program on the host
 * that asks the origin itself. The difference of the medians at one connection; every part as \`npm start\` runs it, on all cores. Each program
 * has a sidecar of its own: \`path_first_added_p50_ms\` is of its first 1 000 requests, the others are of those after them.
 * `path_floor_added_p50_ms` is what three processes of Node add that only pass bytes on, over the same kinds of sockets.
 */
export const path: Group = {
  figures: [
    'path_added_p50_ms',
    'path_p50_ms',
    'direct_p50_ms',
    'path_first_added_p50_ms',
    'path_floor_added_p50_ms',
  ],
  async measure() {
    const directory = benchDirectory();
    const undo = new Undo();
    undo.add(() => rmSync(directory, { recursive: true, force: true }));
    try {
      pin(process.pid, CORES.all);
      undo.add(() => pin(process.pid, CORES.rest));
      const [port = 0] = await freePorts(1);
      await startOrigin(join(directory, 'origin'), port, undo, CORES.all);
      const floorPort = await startFloor(directory, port, undo);
      const mesh = await startRunnerMesh({
        policies: policies(port),
        built: true,
        sharing: 'none',
      });
      undo.add(() => mesh.stop());
      const samples: Samples = { first: [], inside: [], direct: [], floor: [] };
      for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
        const inside = await askInside(mesh);
        const direct = await askDirectly(port);
        const floor = await askDirectly(floorPort);
        if (round < WARM_UP_ROUNDS) continue;
        samples.first.push(...inside.slice(0, FIRST_REQUESTS));
        samples.inside.push(...inside.slice(FIRST_REQUESTS));
        samples.direct.push(...direct.slice(FIRST_REQUESTS));
        samples.floor.push(...floor.slice(FIRST_REQUESTS));
      }
      const median = (took: readonly number[]) => quantile(took, 0.5) / 1_000;
      const [inside, direct] = [median(samples.inside), median(samples.direct)];
      return {
        path_added_p50_ms: inside - direct,
        path_p50_ms: inside,
        direct_p50_ms: direct,
        path_first_added_p50_ms: median(samples.first) - direct,
        path_floor_added_p50_ms: median(samples.floor) - direct,
        path_requests: samples.inside.length,
      };
    } finally {
      await undo.all();
    }
  },
};

async function askInside(mesh: RunnerMesh): Promise<number[]> {
  const { stdout, stderr } = await mesh.client.run({
    code: CLIENT,
    args: ['127.0.0.1', '3128', '/http/bench/v1/items', String(REQUESTS), String(BODY_BYTES)],
    timeoutMs: 60_000,
  });
  return numbers(stdout.toString(), stderr.toString());
}

async function askDirectly(port: number): Promise<number[]> {
  const args = ['127.0.0.1', String(port), '/v1/items', String(REQUESTS), String(BODY_BYTES)];
  return numbers(await run(['/usr/bin/python3', '-c', CLIENT, ...args], CORES.all), '');
}

/** As many processes as there are on the way out, without anything in them; returns the port. */
async function startFloor(directory: string, origin: number, undo: Undo): Promise<number> {
  const [port = 0] = await freePorts(1);
  const [sidecar, proxy] = ['a.sock', 'b.sock'].map((name) => `unix:${join(directory, name)}`);
  const program = join(import.meta.dirname, '../bare-pipe.ts');
  const hops = [`127.0.0.1:${port}`, sidecar, proxy, `127.0.0.1:${origin}`];
  for (const [at, from] of hops.slice(0, -1).entries()) {
    const to = hops[at + 1];
    if (from === undefined || to === undefined) throw new Error('each hop has a next one');
    const argv = [process.execPath, '--conditions=outrider-source', program, from, to];
    const hop = await start(argv, { core: CORES.all, listens: parseAddress(from) });
    undo.add(() => hop.stop());
  }
  return port;
}

function numbers(stdout: string, stderr: string): number[] {
  const took: unknown = JSON.parse(stdout || 'null');
  if (!Array.isArray(took) || took.length !== REQUESTS)
    throw new OutriderError('INTERNAL', `the program did not end well: ${stderr.slice(-500)}`);
  return took.map(Number);
}

/** A datasource on loopback: the one kind of origin on this machine that a program may reach. */
function policies(port: number): string {
  return `apiVersion: outrider/v1
kind: Role
metadata: {name: bench, owner: bench}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 60s, memory: 256MiB, disk: 64MiB, concurrent: 4}
---
apiVersion: outrider/v1
kind: Boundary
metadata: {name: bench, owner: bench}
spec: {mayLoopbackDatasources: true}
---
apiVersion: outrider/v1
kind: Datasource
metadata: {name: bench, owner: bench}
spec: {type: http, endpoint: "http://127.0.0.1:${port}", allowLoopback: true, auth: {type: none}}
---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: bench, owner: bench}
spec:
  subjects: [{role: bench}]
  mode: enforce
  allow:
    - {id: items, datasource: http/bench, methods: [GET], paths: ["/v1/**"], limits: {rate: 1000000/s, burst: 1000000, concurrent: 64}}
  deny: []
`;
}
