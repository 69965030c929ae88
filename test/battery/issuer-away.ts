import { generateSigningKey } from '#core/tokens';
import { until } from '../support/mesh.ts';
import type { Case } from './case.ts';
import { inTime } from './in-time.ts';
import { type Families, type Outcome, outcomeOf, problemsOf, saw } from './judge.ts';
import { callProxy } from './proxy-door.ts';
import {
  accessToken,
  ended,
  exchangeRequest,
  ISSUER,
  type SecondProxy,
  serveKeys,
  startSecondProxy,
} from './second-proxy.ts';
import type { World } from './world.ts';

/**
 * A second proxy of the mesh, which starts while the keys of an identity provider cannot be had: it answers that it cannot know, and takes
 * the same token when they can.
 */
export async function issuerAwayProblems(
  world: World,
  one: Case,
  families: Families,
): Promise<readonly string[]> {
  const key = generateSigningKey(ISSUER);
  const proxy = await startSecondProxy(world);
  const children = [proxy.process];
  try {
    const token = accessToken(key);
    const exchanged = async () => outcomeAt(proxy, token);
    const outcome = await inTime(one, exchanged);
    const problems = problemsOf(one, outcome, families);
    children.push(serveKeys(world, key));
    let last = saw(outcome);
    const taken = async (): Promise<boolean> => {
      const { statuses, ...rest } = await exchanged();
      last = saw({ statuses, ...rest });
      return statuses[0] === 200;
    };
    await until('the keys are there', taken).catch(() => {
      problems.push(`when the keys can be had the token is refused, too: ${last}`);
    });
    if (proxy.process.exitCode !== null) problems.push('the proxy has ended');
    return problems.map((problem) => `${problem} (${saw(outcome)})`);
  } finally {
    await Promise.all(children.map(ended));
  }
}

/** Of one exchange, with the record that it left. */
async function outcomeAt({ socket, records }: SecondProxy, token: string): Promise<Outcome> {
  const before = records('auth').length;
  const reply = await callProxy(socket, exchangeRequest(token));
  const proxy = records('auth').slice(before);
  const plan = {
    mode: 'exchange',
    form: 'http',
    native: true,
    past: 'sidecar',
    steps: [],
  } as const;
  return outcomeOf(plan, { reply, sightings: [], sidecar: [], proxy });
}
