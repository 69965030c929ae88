import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { type Address, formatAddress } from '#core/address';
import { loadConfig } from '#core/config';
import { takeConfigFile } from '#core/config-file';
import { OutriderError } from '#core/errors';
import { packageRoot } from '#core/package-root';
import { runtimeDir, stateDir } from '#core/runtime-dir';
import { gatewaySpec } from '#gateway/config';
import { loadDirectory } from '#policystore';
import { proxySpec } from '#proxy/config';
import { runnerSpec } from '#runner/config';
import { adminAddress, sidecarSpec } from '#sidecar/config';

type Env = Readonly<Record<string, string | undefined>>;

/** The running mesh as the configuration describes it, read as its parts read it. */
export interface MeshFacts {
  readonly url: URL;
  readonly token: string;
  readonly runtime: string;
  readonly state: string;
  /** Where `/metrics` is served, by part. */
  readonly metrics: ReadonlyMap<string, string>;
  /** The port of 127.0.0.1 where the policies say that a datasource is. */
  readonly portOf: (type: string, name: string) => number;
}

/** A program that ran by the tool `execute_python`. */
export interface Ran {
  readonly execId: string;
  readonly role: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | null;
  readonly ms: number;
}

/** @throws {OutriderError} UPSTREAM_UNREACHABLE where no mesh runs, CONFIG_INVALID, POLICY_INVALID */
export async function findMesh(argv: readonly string[], env: Env): Promise<MeshFacts> {
  const uid = process.getuid?.() ?? 0;
  const paths = { runtime: runtimeDir(env, uid), state: stateDir(env, uid) };
  const { argv: options, file } = takeConfigFile(argv);
  const policies = policiesOf(options, env);
  const sources = {
    argv: [],
    env: { ...env, OUTRIDER_RUNNER_POLICIES: policies, OUTRIDER_PROXY_POLICIES: policies },
    file,
  };
  const gateway = loadConfig('gateway', gatewaySpec(paths), sources);
  const proxy = loadConfig('proxy', proxySpec(paths), sources);
  const runner = loadConfig('runner', runnerSpec(paths), sources);
  const sidecar = adminAddress(loadConfig('sidecar', sidecarSpec(paths), sources));

  const base = `http://${formatAddress(gateway.listen)}`;
  if (!(await answers(`${base}/readyz`)))
    throw new OutriderError(
      'UPSTREAM_UNREACHABLE',
      `no mesh is ready at ${base}: start it with \`npm start\` in another terminal`,
    );
  const loaded = await loadDirectory(policies);
  if ((await policyOf(proxy.admin)) !== loaded.digest)
    throw new OutriderError(
      'CONFIG_INVALID',
      `the mesh does not run the policies of ${policies}: give the demo the same --policies as \`outrider up\``,
    );
  const parts: readonly (readonly [string, Address | undefined])[] = [
    ['gateway', gateway.listen],
    ['runner', runner.admin],
    ['sidecar', sidecar],
    ['proxy', proxy.admin],
  ];
  const metrics = new Map<string, string>();
  for (const [part, address] of parts) {
    if (address?.kind !== 'tcp') continue;
    const host = formatAddress(address);
    if (await answers(`http://${host}/metrics`)) metrics.set(part, host);
  }
  return {
    ...paths,
    url: new URL(`${base}/mcp`),
    token: readFileSync(gateway.localTokenFile, 'utf8').trim(),
    metrics,
    portOf(type, name) {
      const found = loaded.documents.datasources.find(
        ({ metadata, spec }) => spec.type === type && metadata.name === name,
      );
      const url = new URL(found?.spec.endpoint ?? 'http://missing');
      if (url.hostname === '127.0.0.1') return Number(url.port || 80);
      throw new OutriderError(
        'CONFIG_INVALID',
        `the demo needs a datasource ${type}/${name} on 127.0.0.1 in ${policies}`,
      );
    },
  };
}

/** The official MCP client, connected to the gateway. */
export async function connectClient({ url, token }: MeshFacts): Promise<Client> {
  const client = new Client(
    { name: 'outrider-demo', version: '1' },
    { versionNegotiation: { mode: 'auto' } },
  );
  const transport = new StreamableHTTPClientTransport(url, {
    requestInit: { headers: { authorization: `Bearer ${token}` } },
  });
  await client.connect(transport);
  return client;
}

/** Runs one of the demo's programs in a fresh sandbox. */
export async function run(client: Client, program: string): Promise<Ran> {
  const code = readFileSync(join(packageRoot, 'examples/demo/programs', program), 'utf8');
  const result = await client.callTool({ name: 'execute_python', arguments: { code } });
  const { structuredContent, content, _meta: meta } = result;
  const { stdout, stderr, exit_code, duration_ms } = Object(structuredContent);
  if (typeof stdout !== 'string')
    throw new OutriderError('SANDBOX_FAILED', `${program} did not run: ${JSON.stringify(content)}`);
  const { id, role } = Object(meta?.['outrider/exec']);
  return {
    execId: String(id),
    role: String(role),
    stdout,
    stderr: String(stderr),
    exitCode: typeof exit_code === 'number' ? exit_code : null,
    ms: Number(duration_ms),
  };
}

/** One audit record of `part`. */
export type AuditRecord = Readonly<Record<string, unknown>>;

const DELIVERED_WITHIN_MS = 5_000;

/** The audit records of an exec, by part. Sidecars deliver a moment after the fact, so that `sidecar` records are waited for. */
export async function auditOf(
  state: string,
  execId: string,
  sidecarRecords: number,
): Promise<Record<'sidecar' | 'proxy' | 'runner', readonly AuditRecord[]>> {
  const read = (part: string) => recordsOf(join(state, 'audit', `${part}.jsonl`), execId);
  const deadline = Date.now() + DELIVERED_WITHIN_MS;
  while (
    (read('sidecar').length < sidecarRecords || read('runner').length === 0) &&
    Date.now() < deadline
  )
    await sleep(50);
  return { sidecar: read('sidecar'), proxy: read('proxy'), runner: read('runner') };
}

function recordsOf(path: string, execId: string): AuditRecord[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.includes(execId) && line.endsWith('}'))
    .map((line): AuditRecord => Object(JSON.parse(line)))
    .filter(({ event }) => event === 'request' || event === 'exec');
}

function policiesOf(argv: readonly string[], env: Env): string {
  const at = argv.indexOf('--policies');
  const given = at >= 0 ? argv[at + 1] : env['OUTRIDER_UP_POLICIES'];
  return given ?? join(packageRoot, 'examples/quickstart/policies');
}

async function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    ({ ok }) => ok,
    () => false,
  );
}

/** The digest of the policy that the proxy decides by. */
async function policyOf(admin: Address): Promise<unknown> {
  const answer: unknown = await fetch(`http://${formatAddress(admin)}/readyz`).then(
    (response) => response.json(),
    () => undefined,
  );
  return Object(answer).policyDigest;
}
