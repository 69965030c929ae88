import { loadDirectory } from '#policystore';
import { until } from '../support/mesh.ts';
import { executionToken, keyOf } from '../support/plays-sidecar.ts';
import { type Case, CaseUnusable, textOf } from './case.ts';
import { inTime } from './in-time.ts';
import { issuerAwayProblems } from './issuer-away.ts';
import { type Families, type Outcome, outcomeOf, problemsOf, saw } from './judge.ts';
import { oracleProblems } from './oracles.ts';
import { inSandbox, Program } from './program.ts';
import {
  type Shown,
  SPOILED,
  shownAs,
  TARGET_PATH,
  takenApart,
  UNSPOILED,
} from './spoiled-tokens.ts';
import { ONCE, usedAgainProblems } from './used-again.ts';
import type { World } from './world.ts';

/** What came of a case about a token: how it was sent, and what is wrong. */
export interface TokenFindings {
  readonly modes: readonly string[];
  readonly problems: readonly string[];
}

/** Shows the proxy itself a token that the mesh's own keys made and the case spoils, between two times that the good one is let through. */
export async function tokenProblems(
  world: World,
  one: Case,
  families: Families,
): Promise<TokenFindings> {
  const variant = textOf(one.send, 'variant') ?? '';
  if (variant === 'jwks_unavailable')
    return { modes: ['exchange'], problems: await issuerAwayProblems(world, one, families) };
  if (variant === 'revoked') return revokedProblems(world, one, families);
  const once = ONCE[variant];
  if (once)
    return { modes: [once.mode], problems: await usedAgainProblems(world, one, once, families) };
  const ways = SPOILED[variant];
  if (!ways) throw new CaseUnusable(`nobody knows the variant "${variant}"`);
  const good = takenApart(await tokenOf(world), {
    runnerKey: keyOf(world.mesh, 'runner'),
    gatewayKey: keyOf(world.mesh, 'gateway'),
  });
  const problems = await controlProblems(world, shownAs(good.token));
  const unspoiled = UNSPOILED[variant];
  if (unspoiled) problems.push(...(await controlProblems(world, unspoiled(good))));
  for (const [what, spoil] of ways) {
    const spoiled = spoil(good);
    const shown = typeof spoiled === 'string' ? shownAs(spoiled) : spoiled;
    problems.push(...judged(one, await inTime(one, () => show(world, what, shown)), families));
  }
  problems.push(...(await controlProblems(world, shownAs(good.token))));
  return { modes: ways.map(([what]) => what), problems };
}

/** A token of a program that runs is good; when it has ended, none of its tokens is, however fresh. */
async function revokedProblems(
  world: World,
  one: Case,
  families: Families,
): Promise<TokenFindings> {
  const mode = 'of a program that has ended';
  const program = new Program(inSandbox(world.mesh, 'fixture'));
  await program.ready;
  const before = execIds(world);
  await program.mark('m/neighbour');
  await until('its request is recorded', () => newIn(world, before) !== undefined);
  const execId = newIn(world, before);
  const problems = await controlProblems(world, shownAs(await tokenOf(world, execId)));
  program.end();
  const token = await tokenOf(world, execId);
  const again = () => show(world, mode, shownAs(token));
  // Where it is not, the next answer is what is wrong.
  await until('it is refused', async () => (await again()).verdict === 'deny').catch(() => {});
  const outcome = await inTime(one, again);
  return { modes: [mode], problems: [...problems, ...judged(one, outcome, families)] };
}

function judged(one: Case, outcome: Outcome, families: Families): string[] {
  const found = [...problemsOf(one, outcome, families), ...oracleProblems(one, outcome)];
  return found.map((problem) => `${outcome.plan.mode}: ${problem} (${saw(outcome)})`);
}

/** Without it a refusal could be one of anybody. */
async function controlProblems(world: World, shown: Shown): Promise<string[]> {
  const outcome = await show(world, 'control', shown);
  return outcome.verdict === 'allow' && outcome.statuses[0] === 200
    ? []
    : [`the token that it was made of is refused, too: ${saw(outcome)}`];
}

async function show(world: World, mode: string, { lines, query = '' }: Shown): Promise<Outcome> {
  const first = [`GET ${TARGET_PATH}${query} HTTP/1.1`, 'Host: 127.0.0.1', 'Connection: close'];
  const bytes = Buffer.from([...first, ...lines, '', ''].join('\r\n'), 'latin1');
  const steps = [{ send: bytes.toString('base64') }];
  const plan = { mode, form: 'http', native: true, past: 'sidecar', steps } as const;
  return outcomeOf(plan, await world.callProxy(bytes));
}

async function tokenOf({ mesh, policies }: World, execId = 'exec-battery'): Promise<string> {
  const { digest } = await loadDirectory(policies);
  return executionToken(mesh, { role: 'fixture', execId, policyDigest: digest });
}

function execIds({ mesh }: World): ReadonlySet<unknown> {
  return new Set(mesh.audit('proxy').map(({ execId }) => execId));
}

function newIn(world: World, before: ReadonlySet<unknown>): string | undefined {
  const found = [...execIds(world)].find((id) => !before.has(id));
  return typeof found === 'string' ? found : undefined;
}
