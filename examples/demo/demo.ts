import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import { toOutriderError } from '#core/errors';
import { packageRoot } from '#core/package-root';
import { startExampleApi } from './example-api.ts';
import { type AuditRecord, auditOf, connectClient, findMesh, type MeshFacts, run } from './mesh.ts';
import { findPrometheus, startPrometheus } from './prometheus.ts';
import { bad, good, LET_THROUGH, paint, quote, say, step, table } from './show.ts';
import type { Source } from './source.ts';

// `npm run demo`: the main job against the running mesh. Exit code 1 where the query was not answered, or anything that must be
// refused was not.

type Client = Awaited<ReturnType<typeof connectClient>>;

async function demo(): Promise<boolean> {
  const mesh = await findMesh(process.argv.slice(2), process.env);
  say(paint('bold', 'Outrider, the main job: code that nobody trusts yet reads a datasource.'));
  say(`The mesh at ${mesh.url.href}, asked by the official MCP client.`);
  const client = await connectClient(mesh);
  let source: Source | undefined;
  try {
    source = await startSource(mesh);
    stopAtSignal(source);
    await showSource(source);
    const answered = await query(client, mesh, source);
    const refused = await tryForbidden(client, mesh);
    const clean = await hunt(client, mesh, source);
    const whole = verifyAudit(mesh);
    say();
    const all = answered && refused && clean && whole;
    if (all) good(paint('bold', 'The query was answered; everything else was refused.'));
    else bad(paint('bold', 'Not everything was as it must be: see the marks above.'));
    return all;
  } finally {
    await client.close();
    await source?.stop();
  }
}

function stopAtSignal(source: Source): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void source.stop().then(() => process.exit(1)));
}

async function startSource({ state, metrics, portOf }: MeshFacts): Promise<Source> {
  step('A datasource that answers nobody without its credential');
  const prometheus = findPrometheus(process.env['PATH']);
  if (prometheus !== undefined)
    return startPrometheus(prometheus, portOf('prometheus', 'metrics'), state, metrics);
  say('Prometheus is not installed (apt-get install prometheus): an example API takes its place.');
  return startExampleApi(portOf('http', 'example'), state);
}

async function showSource(source: Source): Promise<void> {
  const facts = await source.ready();
  const { status } = await fetch(source.asked);
  say(`${source.name}: ${facts}.`);
  say(`Without the credential it answers ${status}. The proxy alone reads the credential.`);
}

/** The allowed query: its table, who allowed it, and the records of it. */
async function query(client: Client, { state }: MeshFacts, source: Source): Promise<boolean> {
  step('A Python program queries it, knowing neither address nor credential');
  const ran = await run(client, source.program);
  quote(ran.stdout || ran.stderr);
  const records = await auditOf(state, ran.execId, 1);
  const allowed = records.proxy.filter(
    ({ verdict, rule, status }) => verdict === 'allow' && rule === source.rule && status === 200,
  );
  if (ran.exitCode === 0 && allowed.length > 0)
    good(
      `allowed by the rule ${source.rule} for the role ${ran.role}, in ${Math.round(ran.ms)} ms`,
    );
  else bad(`the query was not answered (exit code ${ran.exitCode})`);
  showRecords(records);
  return ran.exitCode === 0 && allowed.length > 0;
}

interface Attempt {
  readonly what: string;
  readonly refused: boolean;
  readonly how: string;
  readonly target: string | null;
}

/** What must be refused: what the program saw of it, and which rule and reason the audit has. */
async function tryForbidden(client: Client, { state }: MeshFacts): Promise<boolean> {
  step('Another program tries everything else');
  const ran = await run(client, 'forbidden.py');
  const attempts = ran.stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line): Attempt => Object(JSON.parse(line)));
  const outside = attempts.filter(({ target }) => target !== null);
  const records = await auditOf(state, ran.execId, outside.length);
  const results = attempts.map((attempt) => judge(attempt, records.sidecar));
  table(
    ['attempt', '', 'what the program saw', 'why', 'rule'],
    results.map(({ refused, cells }) => [
      cells[0],
      refused ? 'refused' : LET_THROUGH,
      ...cells.slice(1),
    ]),
  );
  if (ran.stderr !== '') quote(ran.stderr);
  say();
  showRecords(records);
  return results.length > 0 && ran.exitCode === 0 && results.every(({ refused }) => refused);
}

/** An attempt that left the program counts as refused only where the audit says so too. */
function judge(
  { what, refused, how, target }: Attempt,
  sidecar: readonly AuditRecord[],
): { refused: boolean; cells: [string, string, string, string] } {
  if (target === null) return { refused, cells: [what, how, 'does not leave the sandbox', '—'] };
  const record = sidecar.find((one) => one['target'] === target && one['verdict'] === 'deny');
  const why = record === undefined ? 'NOT IN THE AUDIT' : String(record['reason']);
  const rule = record?.['rule'];
  return {
    refused: refused && record !== undefined,
    cells: [what, how, why, typeof rule === 'string' ? rule : 'no rule allows it'],
  };
}

/** Whether anything that a program can read holds a secret of the mesh. */
async function hunt(client: Client, mesh: MeshFacts, source: Source): Promise<boolean> {
  step('A third reads what it can find: environment, arguments, /proc and files');
  const ran = await run(client, 'hunt.py');
  const found: Found = Object(ran.exitCode === 0 ? JSON.parse(ran.stdout) : {});
  if (typeof found.everything !== 'string') {
    bad(`the search did not run: ${ran.stderr}`);
    return false;
  }
  const read = inflateSync(Buffer.from(found.everything, 'base64')).toString('latin1');
  const planted = ['file', 'argument', 'environment'].filter((place) =>
    read.includes(`${found.planted}-${place}`),
  );
  say(
    `It read ${found.read} files, ${Math.round(found.bytes / 1024)} KiB; ${found.closed} were closed to it. Of three planted words it found ${planted.length}.`,
  );
  const secrets: readonly (readonly [string, boolean])[] = [
    ['the credential of the datasource', source.secrets.some((secret) => read.includes(secret))],
    ['the local token', read.includes(mesh.token)],
    ['the assertion of the caller', read.includes(assertionOf(mesh))],
    ['anything that looks like a signed token', /eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*/.test(read)],
    ['anything that looks like a private key', /"d":\s*"[\w-]{20,}"|PRIVATE KEY/.test(read)],
  ];
  for (const [what, isThere] of secrets)
    if (isThere) bad(`${what}: FOUND`);
    else good(`${what}: not found`);
  return planted.length === 3 && secrets.every(([, isThere]) => !isThere);
}

interface Found {
  readonly read: number;
  readonly closed: number;
  readonly bytes: number;
  readonly planted: string;
  readonly everything?: string;
}

function assertionOf({ runtime }: MeshFacts): string {
  return readFileSync(join(runtime, 'local-assertion.jwt'), 'utf8').trim();
}

function verifyAudit({ state }: MeshFacts): boolean {
  step('The audit is whole');
  const directory = join(state, 'audit');
  say(paint('dim', `$ outrider audit verify ${directory}`));
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...process.execArgv, join(packageRoot, 'cli/main.ts'), 'audit', 'verify', directory],
    { encoding: 'utf8' },
  );
  quote(`${stdout}${stderr}`);
  if (status === 0) good('no record was changed, removed, repeated or reordered');
  else bad('the chains do not hold');
  return status === 0;
}

function showRecords(records: Awaited<ReturnType<typeof auditOf>>): void {
  const text = (value: unknown) =>
    typeof value === 'string' || typeof value === 'number' ? String(value) : '';
  const row = (record: AuditRecord) =>
    record['event'] === 'exec'
      ? ['exec', record['killedBy'], record['exitCode'], '', record['execId']]
      : [
          record['verdict'],
          record['reason'] ?? '',
          record['status'],
          record['rule'],
          `${text(record['method'])} ${text(record['target'])}`,
        ];
  say(paint('dim', 'The audit records of it:'));
  table(
    ['part', 'verdict', 'reason', 'status', 'rule', 'target'],
    Object.entries(records).flatMap(([part, list]) =>
      list.map((record) => [part, ...row(record).map(text)]),
    ),
  );
}

try {
  process.exitCode = (await demo()) ? 0 : 1;
} catch (thrown) {
  const error = toOutriderError(thrown);
  const cause = error.code === 'INTERNAL' ? `: ${String(error.cause)}` : '';
  process.stderr.write(`demo: ${error.message}${cause}\n`);
  process.exitCode = 1;
}
