import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { until } from '../support/mesh.ts';
import { readProc } from '../support/processes.ts';
import { headerIn, readAnswers } from './answers.ts';
import { clientHello } from './hello.ts';
import { neighbourProblems, reasonProblems } from './neighbour.ts';
import { connectHead, exchanged, opened, type Reply, type Step } from './steps.ts';
import type { Seen, World } from './world.ts';

/** Something that a mesh of its own has to live through. Resolves to what is wrong; `p99Max`: of a neighbour meanwhile. */
type Harm = (world: World, p99Max: number) => Promise<readonly string[]>;

/** Times and bounds of such a mesh, as its operator may set them: what is waited for takes seconds, not minutes. */
export const IMPATIENT: Readonly<Record<string, string>> = {
  OUTRIDER_SIDECAR_HEADER_TIMEOUT: '3s',
  OUTRIDER_SIDECAR_BODY_TIMEOUT: '3s',
  OUTRIDER_SIDECAR_IDLE_TIMEOUT: '3s',
  OUTRIDER_SIDECAR_SPOOL_RECORDS: '64',
  OUTRIDER_PROXY_UPSTREAM_TIMEOUT: '5s',
};

/** Cases that stop, starve or wait for parts, by the name of their scenario. */
export const HARMS: Readonly<Record<string, Harm>> = {
  body_timeout: async (world, p99Max) => {
    const head = `POST /http/oauth/v1/items HTTP/1.1\r\n${DOOR}Content-Length: 100\r\n\r\n`;
    const drip = Array.from({ length: 8 }, (): Step[] => [sent('a'), { pause: 900 }]).flat();
    const steps: Step[] = [{ connect: 'relay' }, sent(head), ...drip, { read: { want: 1 } }];
    return cutBesides(world, steps, ['body_timeout'], p99Max);
  },
  idle_timeout: async (world, p99Max) => {
    const hello = clientHello({ serverName: 'other.allowed.test', ech: false, padding: 0 });
    const steps: Step[] = [
      ...opened(connectHead('other.allowed.test:443')),
      { send: hello.toString('base64') },
      { hold: 12_000 },
    ];
    return cutBesides(world, steps, ['idle_timeout'], p99Max);
  },
  backpressure: slowReader,
  audit_backpressure: auditAway,
  circuit_open: proxyGone,
  emfile: descriptorsUsedUp,
};

const DOOR = 'Host: 127.0.0.1:3128\r\n';
const GOOD = `GET /http/api/v1/ok HTTP/1.1\r\n${DOOR}\r\n`;
const DENIED = 'GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n';
/** What a part may hold for somebody who does not read. */
const HELD_MAX = 48 * 2 ** 20;
const GUSH = 2 ** 30;
/** The promise is 100 ms; the rest is a machine that is busy with other work. */
const ANSWERED_WITHIN_MS = 100;

async function cutBesides(
  world: World,
  steps: readonly Step[],
  reasons: readonly string[],
  p99Max: number,
): Promise<string[]> {
  const seen: Seen[] = [];
  const attack = async () => seen.push(await world.perform('fixture', steps, 30_000));
  const disturbed = await neighbourProblems(world, attack, p99Max);
  const lives = seen.some(({ reply }) => !reply.eof && reply.error === null);
  return [
    ...(lives ? ['the connection was not cut'] : []),
    ...reasonProblems(seen, reasons),
    ...disturbed,
  ];
}

/** 1 GiB is on offer, and nobody reads it: it must stay where it is. */
async function slowReader(world: World, p99Max: number): Promise<readonly string[]> {
  await world.order({ gush: GUSH });
  const before = world.memory();
  const most: Record<string, number> = {};
  const timer = setInterval(() => {
    for (const [part, bytes] of Object.entries(world.memory()))
      most[part] = Math.max(most[part] ?? 0, bytes);
  }, 100);
  const seen: Seen[] = [];
  const steps: Step[] = [{ connect: 'relay' }, sent(GOOD), { pause: 4_000 }, { reset: true }];
  const attack = async () => seen.push(await world.perform('fixture', steps));
  const disturbed = await neighbourProblems(world, attack, p99Max);
  clearInterval(timer);
  await world.order({});
  const since = world.sightings();
  await until('the origin was left', () => since.some(({ served }) => served !== undefined));
  const served = since.findLast((one) => one.served !== undefined)?.served ?? 0;
  return [
    ...(served > 0 && served < HELD_MAX ? [] : [`the origin got rid of ${served} bytes`]),
    ...Object.entries(most)
      .filter(([part, bytes]) => bytes - (before[part] ?? 0) > HELD_MAX)
      .map(([part, bytes]) => `${part} grew by ${bytes - (before[part] ?? 0)} bytes`),
    ...disturbed,
  ];
}

/** Nobody takes the records: what could not be recorded must not happen. */
async function auditAway(world: World): Promise<readonly string[]> {
  await world.markedIn('fixture'); // its program is there before all stands still
  const proxy = world.mesh.part('proxy');
  const requests = Array.from({ length: 90 }, (_, at): Step[] => [
    sent(DENIED),
    { read: { want: at + 1, last: true } },
  ]).flat();
  process.kill(proxy, 'SIGSTOP');
  let reply: Reply;
  try {
    reply = await world.send('fixture', [{ connect: 'relay' }, ...requests]);
  } finally {
    process.kill(proxy, 'SIGCONT');
  }
  const answers = readAnswers(Buffer.from(reply.data, 'base64'));
  const reasons = answers.map((answer) => headerIn(answer, 'x-outrider-reason'));
  const refused = reasons.filter((reason) => reason === 'audit_backpressure').length;
  const { sidecar } = await performedAgain(world);
  const recorded = sidecar.filter(({ reason }) => reason === 'host_denied').length;
  const told = reasons.filter((reason) => reason === 'host_denied').length;
  return [
    ...(refused > 0 ? [] : [`90 requests were answered ${[...new Set(reasons)].join()}`]),
    ...(recorded === told ? [] : [`${told} requests were denied, ${recorded} of them recorded`]),
  ];
}

/** The proxy ends: at once everything is refused, soon it works again. */
async function proxyGone(world: World): Promise<readonly string[]> {
  const usual = await world.markedIn('fixture');
  process.kill(world.mesh.part('proxy'), 'SIGKILL');
  const refused: Reply[] = [];
  await until('it works again', async () => {
    const reply = await world.send('fixture', [{ connect: 'relay' }, ...exchanged(GOOD, 1)]);
    const [answer] = readAnswers(Buffer.from(reply.data, 'base64'));
    if (answer?.status !== 200) refused.push(reply);
    return answer?.status === 200;
  });
  await performedAgain(world);
  const bound = Math.max(ANSWERED_WITHIN_MS, 5 * usual);
  const times = refused.map(({ firstMs, ms }) => firstMs ?? ms).toSorted((a, b) => a - b);
  const median = times[Math.floor(times.length / 2)] ?? 0;
  const statuses = refused.map(
    ({ data }) => readAnswers(Buffer.from(data, 'base64'))[0]?.status ?? 0,
  );
  return [
    ...(statuses.includes(503) ? [] : [`it was answered ${statuses.join() || 'nothing'}`]),
    ...statuses.filter((status) => status < 502).map((status) => `it was answered ${status}`),
    // Half of them: a machine has other work, too, and who waits for a proxy that is gone waits every time.
    ...(median <= bound ? [] : [`half of ${times.length} refusals took ${Math.round(median)} ms`]),
  ];
}

/** The sidecar has no descriptor left for who calls; it must go on when it has. */
async function descriptorsUsedUp(world: World): Promise<readonly string[]> {
  const pid = world.mesh.part('sidecar');
  await world.markedIn('fixture');
  const open = readdirSync(`/proc/${pid}/fd`).length;
  const usual = /Max open files\s+(\d+)/.exec(readProc(pid, 'limits'))?.[1] ?? '1024';
  const sends = [Buffer.from('GET http').toString('base64')];
  limitDescriptors(pid, String(open + 8));
  let reply: Reply;
  try {
    reply = await world.send('fixture', [{ crowd: { count: 100, sends, holdMs: 1_000 } }]);
  } finally {
    limitDescriptors(pid, usual);
  }
  await until('a good request works', () =>
    world.markedIn('fixture').then(
      () => true,
      () => false,
    ),
  );
  await performedAgain(world);
  const held = reply.crowd?.open ?? 100;
  return [
    ...(held <= 50 ? [] : [`${held} connections were open at once`]),
    ...(world.mesh.part('sidecar') === pid ? [] : ['the sidecar has ended']),
  ];
}

/** Only who runs as the process's user may. */
function limitDescriptors(pid: number, count: string): void {
  const status = readProc(pid, 'status');
  const [uid = '', gid = ''] = ['Uid', 'Gid'].map(
    (name) => new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1],
  );
  const as = ['--reuid', uid, '--regid', gid, '--clear-groups'];
  execFileSync('setpriv', [...as, 'prlimit', '--pid', String(pid), `--nofile=${count}:`]);
}

/** A good request; what is recorded until then is known with it. */
function performedAgain(world: World): Promise<Seen> {
  return world.perform('fixture', [{ connect: 'relay' }, ...exchanged(GOOD, 1)]);
}

function sent(text: string): Step {
  return { send: Buffer.from(text, 'latin1').toString('base64') };
}
