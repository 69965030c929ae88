import { OutriderError } from '#core/errors';
import type { StartOrder, Waiting } from './agent-link.ts';

/** What a profile's sandboxes run, and what waits in them. */
export interface Profile {
  readonly name: string;
  readonly languages: readonly string[];
  /** Added to the environment of every program of the profile, and of what waits. */
  readonly env: Readonly<Record<string, string>>;
}

export const PROFILES: readonly Profile[] = [
  { name: 'python', languages: ['python', 'shell'], env: {} },
  {
    name: 'python-data', // numpy, pandas and matplotlib.pyplot are imported before a program comes
    languages: ['python', 'shell'],
    env: {
      MPLBACKEND: 'Agg',
      MPLCONFIGDIR: '/tmp/matplotlib',
      // One thread each: a sandbox may have few processes, and threads count.
      OMP_NUM_THREADS: '1',
      OPENBLAS_NUM_THREADS: '1',
    },
  },
  {
    name: 'node',
    languages: ['javascript', 'typescript', 'shell'],
    env: {},
  },
  { name: 'shell', languages: ['shell'], env: {} },
];

/** Source text, at most this many UTF-8 bytes. */
export const CODE_MAX_BYTES = 2 ** 20;

export type Program =
  | {
      readonly kind: 'source';
      readonly language: string;
      readonly code: string;
      readonly fileName: string;
      readonly args: readonly string[];
    }
  | { readonly kind: 'command'; readonly argv: readonly string[] };

/** The program's part of the order to the agent. @throws {OutriderError} INVALID_REQUEST, PROFILE_UNKNOWN, BODY_TOO_LARGE */
export function programOrder(
  program: Program,
  profileName: string,
): Pick<StartOrder, 'language' | 'code' | 'name' | 'args' | 'argv'> {
  if (program.kind === 'command') {
    if (program.argv.length === 0)
      throw new OutriderError('INVALID_REQUEST', 'command.argv must name a program');
    refuseNul('command.argv', program.argv);
    return { argv: program.argv };
  }
  const profile = profileNamed(profileName);
  if (!profile.languages.includes(program.language)) {
    throw new OutriderError(
      'INVALID_REQUEST',
      `the profile ${profileName} runs ${profile.languages.join(' and ')}, not "${program.language}"`,
    );
  }
  if (Buffer.byteLength(program.code) > CODE_MAX_BYTES)
    throw new OutriderError('BODY_TOO_LARGE', `the program is larger than ${CODE_MAX_BYTES} bytes`);
  refuseNul('source', [program.fileName, ...program.args]);
  if (program.language === 'shell') refuseNul('source.code', [program.code]);
  const name = program.fileName || DEFAULT_NAME[program.language] || 'main';
  return { language: program.language, code: program.code, name, args: program.args };
}

/** What tracebacks call a program that was given no name. */
const DEFAULT_NAME: Readonly<Record<string, string>> = {
  python: 'main.py',
  javascript: 'main.mjs',
  typescript: 'main.mts',
  shell: 'main.sh',
};

/** What waits in sandboxes of a profile. @throws {OutriderError} PROFILE_UNKNOWN */
export function waitingIn(profileName: string): Waiting {
  return { profile: profileName, env: sandboxEnvironment({}, profileName) };
}

function profileNamed(name: string): Profile {
  const profile = PROFILES.find((candidate) => candidate.name === name);
  if (!profile) throw new OutriderError('PROFILE_UNKNOWN', `this runner has no profile "${name}"`);
  return profile;
}

/**
 * Whether a profile can run on a backend: where memory is limited as address space, which is what a host without control groups
 * has, Node cannot, since it takes far more address space than memory. @throws {OutriderError} BACKEND_UNAVAILABLE
 */
export function assertRunsOn(
  profileName: string,
  { limitsAddressSpace }: { readonly limitsAddressSpace: boolean },
): void {
  if (profileName === 'node' && limitsAddressSpace)
    throw new OutriderError(
      'BACKEND_UNAVAILABLE',
      'the profile node needs control groups for its memory limit, and this host gives none',
    );
}

/** The words of a command line end at a NUL. */
function refuseNul(name: string, words: readonly string[]): void {
  if (words.some((word) => word.includes('\0')))
    throw new OutriderError('INVALID_REQUEST', `${name} must not hold a NUL character`);
}

/** What the sandbox's own proxy needs: a program may not point these elsewhere by asking the runner to. */
const RESERVED = /^(https?|all|no|ftp|grpc)_proxy$|^OUTRIDER_/i;

/** Every sandbox's environment: enough to find programs, the sidecar and a home; nothing of the host's. */
const BASE = {
  PATH: '/opt/node/bin:/usr/local/bin:/usr/bin:/bin',
  HOME: '/workspace',
  TMPDIR: '/tmp',
  LANG: 'C.UTF-8',
  USER: 'sandbox',
  HTTP_PROXY: 'http://127.0.0.1:3128',
  HTTPS_PROXY: 'http://127.0.0.1:3128',
  http_proxy: 'http://127.0.0.1:3128',
  https_proxy: 'http://127.0.0.1:3128',
  NO_PROXY: '127.0.0.1,localhost,::1',
  no_proxy: '127.0.0.1,localhost,::1',
  // Node reads this when it starts: fetch and http go through the sandbox's proxy, whichever profile called it.
  NODE_USE_ENV_PROXY: '1',
  OUTRIDER_URL: 'http://127.0.0.1:3128',
  OUTRIDER_OUTPUT: '/output',
} as const;

/** The environment of a program that asks for these variables besides. @throws {OutriderError} INVALID_REQUEST, PROFILE_UNKNOWN */
export function sandboxEnvironment(
  asked: Readonly<Record<string, string>>,
  profileName: string,
): Record<string, string> {
  for (const [name, value] of Object.entries(asked)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || value.includes('\0'))
      throw new OutriderError('INVALID_REQUEST', `env: "${name}" is not a usable variable`);
    if (RESERVED.test(name))
      throw new OutriderError('INVALID_REQUEST', `env: ${name} belongs to the sandbox`);
  }
  return { ...BASE, ...profileNamed(profileName).env, ...asked };
}
