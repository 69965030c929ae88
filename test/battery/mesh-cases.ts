import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { spellings } from './oracles.ts';
import { SECRETS, type World } from './world.ts';

/** Whether a secret stands in anything that the mesh wrote: log, banner, audit, state, metrics. Run it last. */
export async function secretsWritten(world: World): Promise<readonly string[]> {
  const { mesh } = world;
  const written = [
    ['log', mesh.log()],
    ['banner', mesh.banner()],
    ...filesBelow(mesh.state),
    ...metrics(world),
  ] as const;
  const all = Object.values(SECRETS).flatMap(spellings);
  return written.flatMap(([where, text]) =>
    all.some((secret) => text.includes(secret)) ? [`a secret stands in the ${where}`] : [],
  );
}

function filesBelow(directory: string): [string, string][] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((one) => one.isFile())
    .map((one) => [one.name, readFileSync(join(one.parentPath, one.name), 'utf8')]);
}

/** Of the parts that have them; asked from inside the namespace. */
function metrics({ mesh, within }: World): [string, string][] {
  const urls = [mesh.ports.runner, mesh.ports.sidecar, mesh.ports.proxy].map(
    (port) => `http://127.0.0.1:${port}/metrics`,
  );
  const ask =
    'import sys, urllib.request\nfor url in sys.argv[1:]: print(urllib.request.urlopen(url, timeout=10).read().decode())';
  const [program = '', ...words] = [...within, '/usr/bin/python3', '-c', ask, ...urls];
  return [['metrics', execFileSync(program, words, { encoding: 'utf8' })]];
}

/** Whether each sandbox trusts an authority that no other does, and one that strict clients take. */
export async function authoritiesAreTheirOwn(world: World): Promise<readonly string[]> {
  const code = 'import os\nprint(open(os.environ["SSL_CERT_FILE"]).read())';
  const [one, other] = await Promise.all([trusted(world, code), trusted(world, code)]);
  const [own, ...more] = one.filter((certificate) => !other.includes(certificate));
  if (!own || more.length > 0)
    return [`expected one authority of its own, found ${own ? more.length + 1 : 0}`];
  const said = execFileSync('openssl', ['x509', '-noout', '-text'], {
    input: own,
    encoding: 'utf8',
  });
  const wanted = [
    /Basic Constraints: critical\s+CA:TRUE/,
    /Key Usage: critical\s+Certificate Sign/,
    /Name Constraints: critical/,
    /Subject Key Identifier/,
  ];
  return wanted
    .filter((pattern) => !pattern.test(said))
    .map(({ source }) => `the authority lacks ${source}`);
}

async function trusted({ mesh }: World, code: string): Promise<string[]> {
  const { stdout } = await mesh.sdk.run(code, { role: 'fixture' });
  return stdout.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
}
