import { FAILURES, OutriderError } from '#core/errors';
import { isRecord } from '#core/is-record';
import {
  type Attestation,
  BACKENDS,
  type BackendName,
  type BoxCounters,
  type ResourceLimits,
} from '../backends/backend.ts';

/**
 * What runner and launcher say to each other: one JSON object a line. The runner asks with a few fixed verbs, and can name
 * neither a path nor a command line nor a user; the launcher believes nothing of it that is not of the form below.
 */

export type Ask =
  /** Whether boxes of this backend can be made; answers `Probed`. */
  | { readonly verb: 'probe'; readonly backend: BackendName }
  /** Takes a user for a sandbox and makes its directory; answers `Placed`. */
  | { readonly verb: 'place'; readonly sandboxId: string }
  /** Starts the box of a sandbox that has its place; answers `Started`. */
  | {
      readonly verb: 'start';
      readonly sandboxId: string;
      readonly backend: BackendName;
      readonly image: string;
      readonly limits: ResourceLimits;
    }
  /** The box is made: from now on it has as much of the processors as any other. */
  | { readonly verb: 'settle'; readonly sandboxId: string }
  /** Ends a box at once; the event `ended` says when nothing is left. */
  | { readonly verb: 'kill'; readonly sandboxId: string }
  /** Answers `BoxCounters`. */
  | { readonly verb: 'counters'; readonly sandboxId: string }
  /** Ends the box where there is one, removes the directory and gives the user back. */
  | { readonly verb: 'forget'; readonly sandboxId: string }
  /** Whether the policy files have changed; answers `PolicySignature`. */
  | { readonly verb: 'policySignature' }
  /** Reads the policy files; answers `PolicySnapshot`. */
  | { readonly verb: 'readPolicies' }
  /** A part of what was read last; answers `PolicyPage`. */
  | { readonly verb: 'policyPage'; readonly page: number };

export type Numbered = Ask & { readonly id: number };

export interface Probed {
  readonly problem: string | null;
}

export interface Placed {
  readonly directory: string;
}

export interface Started {
  readonly attestation: Attestation;
  readonly rlimits: Readonly<Record<string, number>>;
}

/** Changes with the policy files. */
export interface PolicySignature {
  readonly signature: string;
}

export interface PolicySnapshot {
  readonly pages: number;
}

/** Some of the bytes of a JSON list of the policy files, in base64. */
export interface PolicyPage {
  readonly content: string;
}

/** What is known of a box at its end. */
export interface Ended {
  readonly diagnostics: string;
  readonly counters: BoxCounters;
}

/** One of the launcher's backends, as it describes it when it is ready. */
export interface Described {
  readonly name: BackendName;
  readonly images: readonly string[];
  readonly limitsAddressSpace: boolean;
}

export interface Problem {
  readonly code: string;
  readonly message: string;
  /** For the log. */
  readonly cause: string;
  readonly retryAfterMs?: number | undefined;
}

export type Answer =
  | { readonly id: number; readonly ok: unknown }
  | { readonly id: number; readonly error: Problem }
  /** First of all, once. */
  | { readonly event: 'ready'; readonly backends: readonly Described[] }
  /** Instead of it, where it cannot run. */
  | { readonly event: 'failed'; readonly error: Problem }
  /** A box is gone, whoever ended it, and nothing is left of it. */
  | ({ readonly event: 'ended'; readonly sandboxId: string } & Ended);

const SANDBOX_ID = /^[A-Za-z0-9-]{1,64}$/;
const IMAGE = /^[A-Za-z0-9][\w./:@-]{0,254}$/;
const LIMITS = ['memoryBytes', 'cpuMillis', 'pids', 'diskBytes'] as const;
const KEYS: Readonly<Record<string, readonly string[]>> = {
  probe: ['backend'],
  place: ['sandboxId'],
  start: ['sandboxId', 'backend', 'image', 'limits'],
  settle: ['sandboxId'],
  kill: ['sandboxId'],
  counters: ['sandboxId'],
  forget: ['sandboxId'],
  policySignature: [],
  readPolicies: [],
  policyPage: ['page'],
};

/** Reads one line of the runner's. @throws {OutriderError} INVALID_REQUEST */
export function parseAsk(line: string): Numbered {
  const value = parseObject(line);
  const { id, verb } = value;
  if (typeof id !== 'number' || !Number.isSafeInteger(id)) throw invalid('id');
  const keys = typeof verb === 'string' && Object.hasOwn(KEYS, verb) ? KEYS[verb] : undefined;
  if (!keys) throw invalid('verb');
  const unknown = Object.keys(value).find((key) => !['id', 'verb', ...keys].includes(key));
  if (unknown !== undefined) throw invalid(unknown);
  switch (verb) {
    case 'probe':
      return { id, verb, backend: backendOf(value) };
    case 'start':
      return {
        id,
        verb,
        sandboxId: sandboxIdOf(value),
        backend: backendOf(value),
        image: imageOf(value),
        limits: limitsOf(value),
      };
    case 'place':
    case 'settle':
    case 'kill':
    case 'counters':
    case 'forget':
      return { id, verb, sandboxId: sandboxIdOf(value) };
    case 'policySignature':
    case 'readPolicies':
      return { id, verb };
    case 'policyPage':
      return { id, verb, page: pageOf(value) };
    default:
      throw invalid('verb');
  }
}

/** A failure as it crosses the pipe. */
export function problemOf(error: OutriderError): Problem {
  const { code, message, cause, retryAfterMs } = error;
  return { code, message, cause: cause instanceof Error ? cause.message : '', retryAfterMs };
}

/** The failure that the launcher told. */
export function errorOf({ code, message, cause, retryAfterMs }: Problem): OutriderError {
  const known = isCode(code) ? code : 'INTERNAL';
  return new OutriderError(known, message, {
    ...(cause ? { cause: new Error(cause) } : {}),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

function isCode(code: string): code is keyof typeof FAILURES {
  return Object.hasOwn(FAILURES, code);
}

function sandboxIdOf({ sandboxId }: Record<string, unknown>): string {
  if (typeof sandboxId !== 'string' || !SANDBOX_ID.test(sandboxId)) throw invalid('sandboxId');
  return sandboxId;
}

function backendOf({ backend }: Record<string, unknown>): BackendName {
  const known = BACKENDS.find((name) => name === backend);
  if (known === undefined) throw invalid('backend');
  return known;
}

function imageOf({ image }: Record<string, unknown>): string {
  if (typeof image !== 'string' || (image !== '' && !IMAGE.test(image))) throw invalid('image');
  return image;
}

function pageOf({ page }: Record<string, unknown>): number {
  if (typeof page !== 'number' || !Number.isSafeInteger(page) || page < 0) throw invalid('page');
  return page;
}

function limitsOf({ limits }: Record<string, unknown>): ResourceLimits {
  if (!isRecord(limits) || Object.keys(limits).length !== LIMITS.length) throw invalid('limits');
  const positive = (name: (typeof LIMITS)[number]): number => {
    const value = limits[name];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) throw invalid(name);
    return value;
  };
  return {
    memoryBytes: positive('memoryBytes'),
    cpuMillis: positive('cpuMillis'),
    pids: positive('pids'),
    diskBytes: positive('diskBytes'),
  };
}

function parseObject(line: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw invalid('a line');
  }
  if (!isRecord(value)) throw invalid('a line');
  return value;
}

function invalid(what: string): OutriderError {
  return new OutriderError('INVALID_REQUEST', `the launcher was asked wrongly: ${what}`);
}
