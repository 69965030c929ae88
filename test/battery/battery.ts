import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  assertUnderstood,
  type Case,
  CaseUnusable,
  type Fields,
  numberOf,
  textOf,
} from './case.ts';
import { CONFIG_CASES } from './config-cases.ts';
import { type Families, outcomeOf, problemsOf, saw } from './judge.ts';
import { authoritiesAreTheirOwn, secretsWritten } from './mesh-cases.ts';
import { modeProblems, oracleProblems } from './oracles.ts';
import type { Ground, Plan, Planner } from './plan.ts';
import { dns, fault, forgotten, upstreamResponse, upstreamTls } from './plans/origin.ts';
import { abort, relay } from './plans/program.ts';
import { raw, rawHex, request } from './plans/raw.ts';
import { socks5, udp } from './plans/socks.ts';
import { tls, tlsHttp, tlsHttp2, tunnel } from './plans/tls.ts';
import { scenarioProblems } from './scenario-cases.ts';
import { tokenProblems } from './token-cases.ts';
import { type Stage, secretNamed, type World } from './world.ts';

/** How a case came out. */
export interface Result {
  readonly id: string;
  readonly category: string;
  readonly description: string;
  readonly state: 'passed' | 'failed';
  /** What was expected and seen. */
  readonly problems: readonly string[];
  readonly modes: readonly string[];
  readonly ms: number;
}

/** Cases that name something to build, by their kind; each has its own way to be judged. */
const BUILT: Readonly<Record<string, (world: World, one: Case) => Promise<readonly string[]>>> = {
  config(world, { id }) {
    const check = CONFIG_CASES[id];
    if (!check) throw new CaseUnusable('nobody has built what it describes');
    return check(world);
  },
  scenario(world, { send, description, expect }) {
    const p99Max = numberOf(expect, 'other_sandboxes_p99_ms_max') ?? 50;
    return scenarioProblems(world, textOf(send, 'name') ?? '', description, p99Max);
  },
  scan: secretsWritten,
  x509: authoritiesAreTheirOwn,
};

const PLANNERS: Readonly<Record<string, Planner>> = {
  raw,
  'raw-hex': rawHex,
  request,
  tls,
  tunnel,
  'tls-http': tlsHttp,
  'tls-h2': tlsHttp2,
  socks5,
  udp,
  dns,
  relay,
  abort,
  'upstream-response': upstreamResponse,
  'upstream-tls': upstreamTls,
  fault,
};

const families: Families = JSON.parse(
  readFileSync(join(import.meta.dirname, 'reasons.json'), 'utf8'),
);
/** Policies that cases name, by the role here that has one like it. */
const ROLES: Readonly<Record<string, string>> = {
  'allow-any': 'allow-any',
  'allow-10.0.0.1': 'allow-10-0-0-1',
};

/** What one way of judging a case found. */
interface Judged {
  readonly modes: readonly string[];
  readonly problems: readonly string[];
}

/** Sends one case by every way in, or builds what it names, and judges what came of it. */
export async function runCase(world: World, one: Case): Promise<Result> {
  const build = BUILT[one.send.kind];
  return resultOf(one, async () => {
    if (!PLANNERS[one.send.kind]) await world.order({}); // not what the case before wanted of origins
    if (one.send.kind === 'jwt') {
      const { modes, problems } = await tokenProblems(world, one, families);
      return { modes, problems: [...problems, ...world.troubles()] };
    }
    if (!build) return judgeSent(world, one);
    return { modes: ['built'], problems: [...(await build(world, one)), ...world.troubles()] };
  });
}

/** The same of a case that is only sent, to whatever is on the stage. */
export async function runSent(stage: Stage, one: Case, role?: string): Promise<Result> {
  return resultOf(one, () => judgeSent(stage, one, role));
}

/** Of a case that the harness could not bring to its end. */
export function failedResult({ id, category, description }: Case, why: string): Result {
  return { id, category, description, state: 'failed', problems: [why], modes: [], ms: 0 };
}

async function resultOf(one: Case, judge: () => Promise<Judged>): Promise<Result> {
  const { id, category, description } = one;
  const since = performance.now();
  const { modes, problems } = await understood(one, judge);
  const ms = Math.round(performance.now() - since);
  const state = problems.length === 0 ? 'passed' : 'failed';
  return { id, category, description, modes, ms, state, problems };
}

async function understood(one: Case, judge: () => Promise<Judged>): Promise<Judged> {
  try {
    assertUnderstood(one);
    return await judge();
  } catch (error) {
    if (!(error instanceof CaseUnusable)) throw error;
    return { modes: [], problems: [`cannot be sent: ${error.message}`] };
  }
}

async function judgeSent(stage: Stage, one: Case, asRole?: string): Promise<Judged> {
  const { kind } = one.send;
  const planner = PLANNERS[kind];
  if (!planner) throw new CaseUnusable(`nobody has built the kind ${kind}`);
  const role = asRole ?? roleOf(one.expect);
  const plans = planner(one, groundOf(stage));
  const problems: string[] = [];
  const outcomes = [];
  for (const plan of plans) {
    const outcome = await perform(stage, plan, role);
    outcomes.push(outcome);
    const found = [...problemsOf(one, outcome, families), ...oracleProblems(one, outcome)];
    const told = found.map(
      (problem) =>
        `${plan.mode}: ${problem}${/seen|recorded/.test(problem) ? '' : ` (${saw(outcome)})`}`,
    );
    problems.push(...new Set(told));
  }
  if (kind === 'dns') await untilForgotten(stage, one, role);
  if (kind === 'fault') problems.push(...(await untilMended(stage, plans, role)));
  problems.push(...modeProblems(outcomes), ...stage.troubles());
  return { modes: plans.map(({ mode }) => mode), problems };
}

function roleOf(expect: Fields): string {
  const policy = textOf(expect, 'policy');
  const role = policy === undefined ? 'fixture' : ROLES[policy];
  if (role === undefined) throw new CaseUnusable(`nobody knows the policy ${policy}`);
  return role;
}

async function perform(stage: Stage, plan: Plan, role: string) {
  await stage.order(plan.orders ?? {});
  return outcomeOf(plan, await stage.perform(plan.role ?? role, plan.steps, plan.timeoutMs));
}

/** What a name server did not answer is remembered for a moment, and would be the answer to the next case's question, too. */
async function untilForgotten(stage: Stage, one: Case, role: string): Promise<void> {
  const plan = forgotten(one);
  if (!plan) return;
  const until = performance.now() + FORGOTTEN_WITHIN_MS;
  while (performance.now() < until) {
    const { verdict } = await perform(stage, plan, role);
    if (verdict === 'allow') return;
  }
}

/** The control: when the fault is over, and what is remembered of it, the same is let through. */
async function untilMended(stage: Stage, plans: readonly Plan[], role: string): Promise<string[]> {
  const until = performance.now() + FORGOTTEN_WITHIN_MS;
  for (const { orders: _fault, ...plan } of plans.slice(0, 1))
    while (performance.now() < until)
      if ((await perform(stage, plan, role)).verdict === 'allow') return [];
  return ['without the fault it is refused, too'];
}

const FORGOTTEN_WITHIN_MS = 30_000;

function groundOf({ certificates }: Stage): Ground {
  // Three parts, as a token has; none of this mesh can be seen from here.
  const token = 'eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJub2JvZHkifQ.AAAA';
  return { certificates, known: { secret: secretNamed, token, sidecarId: 'outrider' } };
}
