import type { ProgramAsk } from '../../test/support/runner-client.ts';
import type { RunnerMesh } from '../../test/support/runner-mesh.ts';
import { bareArguments, bwrapArguments, firstByteOf } from '../floors.ts';
import type { Group, Wanted } from '../group.ts';
import { quantile } from '../measure.ts';
import { benchMesh, calm, type Roles, USUAL } from './mesh.ts';

const ROUNDS = 60;
const WARM_UP = 5;
const PYTHON = 'print(1)';
const PANDAS = 'import pandas\nprint(pandas.DataFrame({"a": [1, 2, 3]}).sum().to_dict())';

/** A figure, and how one sample of it is taken. */
interface Subject {
  readonly figure: string;
  readonly role?: keyof typeof ROLES;
  readonly sample: (meshes: Meshes) => Promise<number>;
}
/** `cold` keeps no warm sandboxes. */
type Meshes = Readonly<Record<'warm' | 'cold', RunnerMesh>>;

/** One role for each pool: what a role asks for without being told is what is kept warm for it. */
const ROLES = {
  python: `profiles: [python], ${USUAL}`,
  data: 'profiles: [python-data], timeout: 60s, memory: 512MiB, disk: 64MiB, concurrent: 64',
  node: 'profiles: [node], timeout: 60s, memory: 512MiB, disk: 64MiB, concurrent: 64',
  shell: `profiles: [shell], ${USUAL}`,
  docker: `minimumTier: container, profiles: [python], ${USUAL}`,
  gvisor: `minimumTier: gvisor, profiles: [python], timeout: 60s, memory: 512MiB, disk: 64MiB, concurrent: 64`,
} as const satisfies Roles;

const SUBJECTS: readonly Subject[] = [
  warm('exec_first_byte', 'python', { code: PYTHON }),
  { figure: 'bare_python', sample: () => firstByteOf(bareArguments(PYTHON)) },
  warm('node_first_byte', 'node', { language: 'javascript', code: 'console.log(1)' }),
  {
    figure: 'bare_node',
    sample: () => firstByteOf([process.execPath, '-e', 'console.log(1)']),
  },
  warm('shell_first_byte', 'shell', { language: 'shell', code: 'echo 1' }),
  { figure: 'bare_shell', sample: () => firstByteOf(['/bin/sh', '-c', 'echo 1']) },
  warm('pandas_first_result', 'data', { code: PANDAS }),
  warm('docker_first_byte', 'docker', { code: PYTHON }),
  warm('gvisor_first_byte', 'gvisor', { code: PYTHON }),
  {
    figure: 'cold',
    sample: async ({ cold }) => firstByte(cold, { role: 'python', code: PYTHON }, false),
  },
  { figure: 'bwrap_python', sample: () => firstByteOf(bwrapArguments(PYTHON)) },
];

/**
 * From the request of a gRPC client to the first byte of stdout, in a fresh single-use sandbox behind its sidecar, and the floors;
 * in turns, so that a slow moment of the machine meets all of them, and each with the machine calm.
 */
export const latency: Group = {
  figures: SUBJECTS.flatMap(({ figure }) => [`${figure}_p50_ms`, `${figure}_p95_ms`]),
  async measure(wanted: Wanted) {
    const subjects = SUBJECTS.filter(({ figure }) =>
      ['p50', 'p95'].some((share) => wanted(`${figure}_${share}_ms`)),
    );
    const samples = new Map(subjects.map(({ figure }) => [figure, [] as number[]]));
    const meshes = await startMeshes(subjects);
    try {
      for (let round = 0; round < WARM_UP + ROUNDS; round++)
        for (const { figure, sample } of subjects) {
          await calm(meshes.warm);
          const ms = await sample(meshes);
          if (round >= WARM_UP) samples.get(figure)?.push(ms);
        }
    } finally {
      await meshes.warm.stop();
      await meshes.cold.stop();
    }
    return Object.fromEntries(
      [...samples].flatMap(([figure, values]) => [
        [`${figure}_p50_ms`, quantile(values, 0.5)],
        [`${figure}_p95_ms`, quantile(values, 0.95)],
      ]),
    );
  },
};

async function startMeshes(subjects: readonly Subject[]): Promise<Meshes> {
  const names = new Set(['python', ...subjects.flatMap(({ role }) => role ?? [])]);
  const roles = Object.fromEntries(Object.entries(ROLES).filter(([name]) => names.has(name)));
  const backends = ['bubblewrap', 'docker', 'gvisor'].filter(
    (name) => name === 'bubblewrap' || names.has(name),
  );
  const first = await benchMesh(roles, backends);
  try {
    return {
      warm: first,
      cold: await benchMesh(
        { python: ROLES.python },
        ['bubblewrap'],
        ['--pool-size', '0', '--pool-max', '0'],
      ),
    };
  } catch (error) {
    await first.stop();
    throw error;
  }
}

function warm(figure: string, role: keyof typeof ROLES, ask: ProgramAsk): Subject {
  return { figure, role, sample: (meshes) => firstByte(meshes.warm, { ...ask, role }, true) };
}

/** @throws {Error} where the program did not say anything, or where its sandbox was not as warm as the figure says */
async function firstByte(
  mesh: RunnerMesh,
  ask: ProgramAsk,
  shouldBeWarm: boolean,
): Promise<number> {
  const from = performance.now();
  let first: number | undefined;
  let wasWarm = false;
  for await (const response of mesh.client.exec(ask).responses) {
    if (response.$case === 'stdout') first ??= performance.now() - from;
    if (response.$case === 'started') wasWarm = response.value.warm;
  }
  if (first === undefined) throw new Error(`${ask.role ?? ''} wrote nothing`);
  if (wasWarm !== shouldBeWarm)
    throw new Error(`a sandbox of ${ask.role ?? ''} was ${wasWarm ? '' : 'not '}warm`);
  return first;
}
