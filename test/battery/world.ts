import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { isAlive, readProc } from '../support/processes.ts';
import { type AuditRecord, AuditTail } from './audit-tail.ts';
import type { CanaryOrders, Sighting } from './canary.ts';
import { type Canary, startCanary } from './canary-process.ts';
import { type Certificates, makeCertificates } from './certificates.ts';
import { inSandbox, Program } from './program.ts';
import { callProxy } from './proxy-door.ts';
import type { Reply, Step } from './steps.ts';

/** Where the fixtures' names lead, as any public name server would say. */
export const NAMES: Readonly<Record<string, readonly string[]>> = {
  'marker.battery.test': ['203.0.113.99'],
  'api.allowed.test': ['203.0.113.10', '2001:db8::10'],
  'other.allowed.test': ['203.0.113.11'],
  'a.allowed.test': ['203.0.113.12'],
  'b.allowed.test': ['203.0.113.13'],
  'cred.allowed.test': ['203.0.113.14'],
  'unpaid.allowed.test': ['203.0.113.16'],
  'broken.allowed.test': ['203.0.113.17'],
  'limited.allowed.test': ['203.0.113.18'],
  '*.wild.test': ['203.0.113.15'],
  'wild.test': ['203.0.113.15'],
  'evil.test': ['203.0.113.66'],
  '*.evil.test': ['203.0.113.66'],
  'evilwild.test': ['203.0.113.66'],
  '*.upstream.test': ['203.0.113.20'],
};
/** What must never be reached: the harness is there to notice. */
const TRAPS = [
  '169.254.169.254',
  '169.254.170.2',
  '10.0.0.1',
  '10.0.0.5',
  '10.1.2.3',
  '192.168.0.1',
  '100.100.100.200',
  '8.8.8.8',
];
const PORTS = [80, 443, 22, 53, 853, 8080, 6443];
const NEIGHBOUR = 'http://marker.battery.test/m/neighbour';
const MARKER_ADDRESS = '203.0.113.99';
/** What was answered is told at once. */
const SOON_MS = 3;

/** The values of every secret that the mesh holds here; the last is an access key of S3, whose id is none. */
export const SECRETS = Object.fromEntries(
  ['A', 'B', 'C', 'D', 'S3'].map((name) => [
    `BATTERY_SECRET_${name}`,
    `${name === 'S3' ? 'AKIABATTERY:' : ''}canary-${name}-c3VwZXI-${'x'.repeat(12)}-${name}`,
  ]),
);

/** The value that a case means by `{secret:NAME}`: of the credential with that letter, or of any. */
export function secretNamed(name: string): string {
  const letter = /[a-d]$/i.exec(name.trim())?.[0].toUpperCase() ?? 'A';
  return SECRETS[`BATTERY_SECRET_${letter}`] ?? '';
}

/** Everything that happened because of one order: what the program saw, what the origins saw, what was recorded. */
export interface Seen {
  readonly reply: Reply;
  readonly sightings: readonly Sighting[];
  readonly sidecar: readonly AuditRecord[];
  readonly proxy: readonly AuditRecord[];
}

/** What a case that is sent needs: origins, and programs whose requests come to them or do not. */
export interface Stage {
  readonly certificates: Certificates;
  /** What the origins answer from now on. */
  readonly order: (orders: CanaryOrders) => Promise<void>;
  /** Lets the program of a role do something, and then the marker, so that all that belongs to it is known when it resolves. */
  readonly perform: (role: string, steps: readonly Step[], timeoutMs?: number) => Promise<Seen>;
  /** What is no longer as it was: processes that are gone, faults that were logged. */
  readonly troubles: () => string[];
  readonly stop: () => Promise<void>;
}

/** The mesh as shipped, its origins, and programs in its sandboxes. */
export interface World extends Stage {
  readonly mesh: RunningMesh;
  /** The directory of policies that the mesh runs with. */
  readonly policies: string;
  /** Put before a command that is to live in the mesh's network. */
  readonly within: readonly string[];
  /**
   * Bytes to the proxy itself, past every sidecar, or to another one whose socket is given and whose records are not among those seen; then
   * the marker, as with `perform`.
   */
  readonly callProxy: (bytes: Buffer, socketPath?: string) => Promise<Seen>;
  /** All that the origins have seen so far. */
  readonly sightings: () => readonly Sighting[];
  /** The same without the marker, for when nothing works. What is seen of it is seen with what is performed next. */
  readonly send: (role: string, steps: readonly Step[], timeoutMs?: number) => Promise<Reply>;
  /** A good request of the program of a role, beside what others do. Resolves to its milliseconds. */
  readonly markedIn: (role: string) => Promise<number>;
  /** Resident bytes of sidecar, proxy and runner. */
  readonly memory: () => Readonly<Record<string, number>>;
}

export interface WorldOptions {
  /** Configuration of the mesh beyond what the fixtures need. */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether parts may be ended, and come back: their ends are no trouble then. */
  readonly mayEnd?: boolean;
}

/** Makes a namespace and starts everything in it. Needs root, iproute2, nsenter and openssl. */
export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const undo: (() => unknown)[] = [];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).toReversed()) await step();
  };
  try {
    const { directory, within, certificates, canary } = await startOrigins(undo);
    const policies = join(directory, 'policies');
    cpSync(join(import.meta.dirname, 'policies'), policies, { recursive: true });
    const mesh = await startMesh({
      within,
      env: {
        ...SECRETS,
        ...options.env,
        OUTRIDER_PROXY_DNS_SERVERS: '127.0.0.1:5353',
        OUTRIDER_PROXY_LIMITS_DATASOURCE: 'none', // the cases come faster than a person asks
        OUTRIDER_PROXY_TLS_CA_FILE: certificates.authorityFile,
        OUTRIDER_UP_POLICIES: policies,
      },
    });
    undo.push(() => mesh.stop());
    const given = { certificates, policies, within, mayEnd: options.mayEnd ?? false };
    return worldOf(mesh, canary, given, undo, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The namespace with its origins, and a directory; steps that undo it are added to the list. */
export async function startOrigins(undo: (() => unknown)[]) {
  const directory = mkdtempSync(join(tmpdir(), 'o-battery-'));
  undo.push(() => rmSync(directory, { recursive: true, force: true }));
  chmodSync(directory, 0o755);
  const namespace = makeNamespace(undo);
  const within = ['nsenter', `--net=/run/netns/${namespace}`];
  const certificates = makeCertificates(directory, Object.keys(NAMES));
  const canary = await startCanary(within, certificates, NAMES, PORTS);
  undo.push(() => canary.stop());
  return { directory, within, certificates, canary };
}

function worldOf(
  mesh: RunningMesh,
  canary: Canary,
  given: Pick<World, 'certificates' | 'policies' | 'within'> & { readonly mayEnd: boolean },
  undo: (() => unknown)[],
  stop: () => Promise<void>,
): World {
  const programs = new Map<string, Program>();
  const parts = ['sidecar', 'proxy', 'runner'].map((name) => [name, mesh.part(name)] as const);
  undo.push(() => programs.forEach((program) => program.end()));
  const programOf = async (role: string): Promise<Program> => {
    const program = programs.get(role) ?? new Program(inSandbox(mesh, role));
    programs.set(role, program);
    await program.ready;
    return program;
  };
  const [sidecar, proxy] = ['sidecar', 'proxy'].map((part) => {
    const tail = new AuditTail(join(mesh.state, 'audit', `${part}.jsonl`));
    undo.push(() => tail.close());
    return async (marker: string): Promise<AuditRecord[]> => {
      const isMarker = ({ target }: AuditRecord): boolean => target === marker;
      const records = await tail.upTo(`the ${part} recorded the marker`, isMarker);
      return records.filter(({ event, target }) => event === 'request' && target !== NEIGHBOUR);
    };
  });
  let [marks, judged] = [0, 0];
  const watched = async (program: Program, act: () => Promise<Reply>): Promise<Seen> => {
    const reply = await act();
    const mark = `m/${(marks += 1)}`;
    await program.mark(mark);
    const marked = () =>
      canary.sightings.findLast(({ request }) => request?.url === `/${mark}`) !== undefined;
    await until('the marker was seen', marked, undefined, SOON_MS);
    const sightings = canary.sightings.slice(judged).filter((one) => !isOfMarker(one));
    judged = canary.sightings.length;
    const marker = `http://marker.battery.test/${mark}`;
    const [bySidecar = [], byProxy = []] = [await sidecar?.(marker), await proxy?.(marker)];
    return { reply, sightings, sidecar: bySidecar, proxy: byProxy };
  };
  return {
    mesh,
    ...given,
    sightings: () => canary.sightings,
    order: canary.order,
    async perform(role, steps, timeoutMs) {
      const program = await programOf(role);
      return watched(program, () => program.order(steps, timeoutMs));
    },
    async callProxy(bytes, socketPath = join(mesh.runtime, 'proxy.sock')) {
      const program = await programOf('fixture');
      return watched(program, () => callProxy(socketPath, bytes));
    },
    send: async (role, steps, timeoutMs) => (await programOf(role)).order(steps, timeoutMs),
    markedIn: async (role) => (await programOf(role)).mark('m/neighbour'),
    memory: () => Object.fromEntries(parts.map(([name, pid]) => [name, residentBytes(pid)])),
    troubles: () => [
      ...parts
        .filter(([, pid]) => !given.mayEnd && !isAlive(pid))
        .map(([name]) => `${name} has ended`),
      ...(/unhandled|uncaught|a fault of ours/i.test(mesh.log())
        ? ['the log tells of a fault']
        : []),
    ],
    stop,
  };
}

/** Whether a sighting is of the harness's own requests, or of none. */
export function isOfMarker({
  asked,
  connected,
  request,
  complete,
  served,
  done,
  ready,
}: Sighting): boolean {
  return (
    asked?.name === 'marker.battery.test' ||
    connected?.address.endsWith(MARKER_ADDRESS) === true ||
    request?.host === 'marker.battery.test' ||
    complete?.url.startsWith('/m/') === true ||
    served !== undefined ||
    done !== undefined ||
    ready !== undefined
  );
}

let namespaces = 0;

function makeNamespace(undo: (() => unknown)[]): string {
  const name = `outrider-b${process.pid}-${(namespaces += 1)}`;
  run('ip', 'netns', 'add', name);
  undo.push(() => run('ip', 'netns', 'delete', name));
  run('ip', '-n', name, 'link', 'set', 'lo', 'up');
  const addresses = [...new Set([...Object.values(NAMES).flat(), ...TRAPS])];
  for (const address of addresses)
    run(
      'ip',
      '-n',
      name,
      'address',
      'add',
      `${address}/${address.includes(':') ? 128 : 32}`,
      'dev',
      'lo',
    );
  return name;
}

function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readProc(pid, 'status'))?.[1] ?? 0) * 1024;
}

function run(program: string, ...argv: readonly string[]): void {
  execFileSync(program, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
}
