import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { parseAddress } from '#core/address';
import { OutriderError, toOutriderError } from '#core/errors';
import { fromServiceError } from '#core/grpc';
import { IsolationTier } from '#proto';
import type { Attack } from './attack.ts';
import { ATTACKS } from './attacks/index.ts';
import { type BatteryOptions, runBattery } from './battery.ts';
import { dockerRunTarget } from './docker-run.ts';
import { type Columns, countOf, exitCodeOf, jsonOf, tableOf } from './report.ts';
import { Rig } from './rig.ts';
import { RunnerClient, type RunnerTargetOptions, runnerTarget } from './runner-target.ts';
import type { Mortal, Target } from './target.ts';

const USAGE = `usage: outrider redteam [--backend NAME,...] [--runner ADDRESS] [--docker-run IMAGE] [--only ID,...] [--json]

Attacks sandboxes and says what came of it: every attack on every backend, each after a control that shows that the attack works
where the protection is off. Exit: 0 everything was refused; 1 something escaped, or a control did not work; 2 wrong usage.

  --backend NAME,...   only these; one that is not usable is then a failure. Default: every usable one
  --runner ADDRESS     attack this runner, e.g. unix:/run/outrider/runner.sock. Default: one started for it alone
  --docker-run IMAGE   also attack plain docker run of an image with Python, for comparison; does not change the exit code
  --only ID,...        only these attacks
  --json               one JSON object instead of the table
  --list               what there is, without running it
`;

const BACKENDS = ['bubblewrap', 'docker', 'gvisor'];

export interface RedteamIo {
  readonly out: NodeJS.WritableStream;
  readonly err: NodeJS.WritableStream;
  /** argv of `outrider` itself, to start parts with. */
  readonly self: readonly string[];
}

/** `outrider redteam`: 0 where everything was refused and every refusal is proven, 1 where not, 2 for wrong usage. */
export async function redteam(argv: readonly string[], io: RedteamIo): Promise<number> {
  const asked = parse(argv);
  if (typeof asked === 'string') {
    (asked === '' ? io.out : io.err).write(asked === '' ? USAGE : `${asked}\n\n${USAGE}`);
    return asked === '' ? 0 : 2;
  }
  if (asked.list && asked.json) {
    const attacks = asked.attacks.map(({ id, group, name }) => ({ id, group, name }));
    io.out.write(`${JSON.stringify({ attacks })}\n`);
    return 0;
  }
  if (asked.list) {
    for (const { id, group, name } of asked.attacks)
      io.out.write(`${String(id).padStart(4)}  ${group.padEnd(10)}  ${name}\n`);
    return 0;
  }
  try {
    return await attack(asked, io);
  } catch (thrown) {
    const error = thrown instanceof OutriderError ? thrown : fromServiceError(thrown);
    io.err.write(`outrider redteam: ${toOutriderError(error).message}\n`);
    if (error.code === 'INTERNAL') io.err.write(`${String(error.cause)}\n`);
    return 1;
  }
}

interface Asked {
  readonly attacks: readonly Attack[];
  readonly backends: readonly string[] | undefined;
  readonly runner: string | undefined;
  readonly image: string | undefined;
  readonly json: boolean;
  readonly list: boolean;
}

async function attack(asked: Asked, { out, err, self }: RedteamIo): Promise<number> {
  const startedAt = performance.now();
  const rig = asked.runner === undefined ? newRig(asked, self) : undefined;
  let client: RunnerClient | undefined;
  // Nothing of ours stays behind where somebody loses patience.
  const leave = () => void rig?.stop().finally(() => process.exit(130));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, leave);
  try {
    await rig?.start();
    client = new RunnerClient(rig?.address ?? asked.runner ?? '');
    const targets = await targetsOf(client, asked, rig, { err, self });
    const comparison = asked.image === undefined ? [] : [dockerRunTarget(asked.image)];
    const columns: Columns = {
      counted: targets.map(({ name }) => name),
      compared: comparison.map(({ name }) => name),
    };
    const options: BatteryOptions = {
      attacks: asked.attacks,
      targets: [...targets, ...comparison],
      rig,
      ...(process.stderr.isTTY ? { onProgress: (text) => void err.write(`\x1b[2K${text}\r`) } : {}),
    };
    const rows = await runBattery(options);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
    const { notApplicable } = countOf(rows, columns);
    if (asked.json) out.write(`${jsonOf(rows, columns)}\n`);
    else {
      out.write(`${rows.length} attacks on ${columns.counted.join(', ')} in ${seconds} s; `);
      out.write(`${notApplicable} not applicable\n\n${tableOf(rows, columns)}`);
    }
    return exitCodeOf(countOf(rows, columns));
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, leave);
    client?.close();
    await rig?.stop();
  }
}

function newRig({ backends }: Asked, self: readonly string[]): Rig {
  return new Rig({ self, backends: backends ?? BACKENDS, secret: randomBytes(16).toString('hex') });
}

/** The backends to attack. @throws {OutriderError} BACKEND_UNAVAILABLE where one that was asked for is not usable, or none is */
async function targetsOf(
  client: RunnerClient,
  { backends }: Asked,
  rig: Rig | undefined,
  { err, self }: Pick<RedteamIo, 'err' | 'self'>,
): Promise<Target[]> {
  const known = (await client.capabilities()).backends;
  for (const { name, usable, reason } of known)
    if (!usable) err.write(`outrider redteam: ${name} is not usable: ${reason}\n`);
  const chosen = known.filter(({ name }) => backends?.includes(name) ?? true);
  const unusable = (backends ?? []).filter(
    (name) => !chosen.some((one) => one.name === name && one.usable),
  );
  const usable = chosen.filter((one) => one.usable);
  if (unusable.length > 0 || usable.length === 0)
    throw new OutriderError(
      'BACKEND_UNAVAILABLE',
      `not usable: ${unusable.join(', ') || 'any backend'}`,
    );
  return usable.map(({ name, tier }) => {
    const shared = { client, backend: name, ownKernel: tier === IsolationTier.GVISOR };
    const stranger = rig && runnerTarget({ ...shared, who: () => rig.stranger() });
    const mortal = rig && (() => startMortal(self, shared));
    return runnerTarget({ ...shared, stranger, mortal });
  });
}

/** A second runner of our own, with one backend. */
async function startMortal(
  self: readonly string[],
  { backend, ownKernel }: Pick<RunnerTargetOptions, 'backend' | 'ownKernel'>,
): Promise<Mortal> {
  const rig = new Rig({ self, backends: [backend], secret: '' });
  const client = new RunnerClient(rig.address);
  const end = async () => {
    client.close();
    await rig.stop();
  };
  try {
    await rig.start();
  } catch (error) {
    await end();
    throw error;
  }
  return { target: runnerTarget({ client, backend, ownKernel }), kill: () => rig.crash(), end };
}

function parse(argv: readonly string[]): Asked | string {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        backend: { type: 'string' },
        runner: { type: 'string' },
        'docker-run': { type: 'string' },
        only: { type: 'string' },
        json: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) return '';
    const ids = values.only?.split(',');
    const missing = ids?.filter((id) => !ATTACKS.some((one) => String(one.id) === id)) ?? [];
    if (missing.length > 0) return `there is no attack ${missing.join(', ')}`;
    if (values.runner !== undefined) parseAddress(values.runner);
    const backends = values.backend?.split(',');
    const strange = backends?.filter((name) => !BACKENDS.includes(name)) ?? [];
    if (strange.length > 0) return `there is no backend ${strange.join(', ')}`;
    return {
      attacks: ATTACKS.filter(({ id }) => ids?.includes(String(id)) ?? true),
      backends,
      runner: values.runner,
      image: values['docker-run'],
      json: values.json,
      list: values.list,
    };
  } catch (error) {
    return error instanceof Error ? error.message : 'wrong usage';
  }
}
