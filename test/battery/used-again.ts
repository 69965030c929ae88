import { createDpopKey, dpopProof } from '#core/testing/dpop-proof';
import { generateSigningKey } from '#core/tokens';
import { until } from '../support/mesh.ts';
import { readAnswers } from './answers.ts';
import type { Case } from './case.ts';
import { inTime } from './in-time.ts';
import { type Families, type Outcome, outcomeOf, problemsOf, saw } from './judge.ts';
import { oracleProblems } from './oracles.ts';
import { callProxy } from './proxy-door.ts';
import {
  accessToken,
  EXCHANGE_URI,
  ended,
  exchangeRequest,
  ISSUER,
  type SecondProxy,
  serveKeys,
  startSecondProxy,
} from './second-proxy.ts';
import { shownAs, TARGET_PATH, TARGET_URI } from './spoiled-tokens.ts';
import type { World } from './world.ts';

/** Gets a token by an exchange, and shows it so that the lines may come once. */
interface Once {
  readonly mode: string;
  readonly lines: (exchange: Exchange) => Promise<readonly string[]>;
}

type Exchange = (
  form?: Readonly<Record<string, string>>,
  lines?: readonly string[],
) => Promise<string>;

/** By the `variant` of a case. */
export const ONCE: Readonly<Record<string, Once>> = {
  jti_replay: {
    mode: 'a token for one request, again',
    lines: async (exchange) => shownAs(await exchange({ once: 'true' })).lines,
  },
  dpop_replay: {
    mode: 'the proof of a key, again',
    async lines(exchange) {
      const key = createDpopKey();
      const toGet = dpopProof(key, { htm: 'POST', htu: EXCHANGE_URI });
      const token = await exchange({}, [`DPoP: ${toGet}`]);
      const toUse = dpopProof(key, { htm: 'GET', htu: TARGET_URI, token });
      return [`Proxy-Authorization: DPoP ${token}`, `DPoP: ${toUse}`];
    },
  },
};

/**
 * A second proxy of the mesh, which exchanges tokens: what may come once is let through, and refused when it comes again; afterwards
 * another one is let through.
 */
export async function usedAgainProblems(
  world: World,
  one: Case,
  { mode, lines }: Once,
  families: Families,
): Promise<readonly string[]> {
  const key = generateSigningKey(ISSUER);
  const proxy = await startSecondProxy(world);
  const children = [proxy.process, serveKeys(world, key)];
  const show = (shown: readonly string[]) => outcomeAt(world, proxy, mode, shown);
  const exchange: Exchange = (form, more) =>
    tokenFrom(proxy, () => exchangeRequest(accessToken(key), form, more));
  const first = async (): Promise<{ shown: readonly string[]; problems: string[] }> => {
    const shown = await lines(exchange);
    const outcome = await show(shown);
    const good = outcome.verdict === 'allow' && outcome.statuses[0] === 200;
    return { shown, problems: good ? [] : [`the first time is refused, too: ${saw(outcome)}`] };
  };
  try {
    // Keys that could not be had yet are no fault of the case's.
    await until('tokens are exchanged', () => exchange().then(Boolean, () => false));
    const { shown, problems } = await first();
    const outcome = await inTime(one, () => show(shown));
    const found = [...problemsOf(one, outcome, families), ...oracleProblems(one, outcome)];
    problems.push(...found.map((problem) => `${mode}: ${problem} (${saw(outcome)})`));
    problems.push(...(await first()).problems);
    if (proxy.process.exitCode !== null) problems.push('the proxy has ended');
    return problems;
  } finally {
    await Promise.all(children.map(ended));
  }
}

/** @throws {Error} with the answer where there is no token in it */
async function tokenFrom({ socket }: SecondProxy, request: () => Buffer): Promise<string> {
  const { data } = await callProxy(socket, request());
  const [answer] = readAnswers(Buffer.from(data, 'base64'));
  const token = answer?.status === 200 && Object(JSON.parse(answer.body)).access_token;
  if (typeof token !== 'string') throw new Error(`no token was given: ${answer?.body}`);
  return token;
}

async function outcomeAt(
  world: World,
  { socket, records }: SecondProxy,
  mode: string,
  lines: readonly string[],
): Promise<Outcome> {
  const first = [`GET ${TARGET_PATH} HTTP/1.1`, 'Host: 127.0.0.1', 'Connection: close'];
  const bytes = Buffer.from([...first, ...lines, '', ''].join('\r\n'), 'latin1');
  const before = records('request').length;
  const seen = await world.callProxy(bytes, socket);
  const steps = [{ send: bytes.toString('base64') }];
  const plan = { mode, form: 'http', native: true, past: 'sidecar', steps } as const;
  return outcomeOf(plan, { ...seen, proxy: records('request').slice(before) });
}
