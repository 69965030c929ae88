import type { Binding } from './binding.ts';
import { type AnsweredCall, AnswerRelay } from './forward.ts';
import { hasBody } from './framing.ts';
import type { ProgramRequest } from './program-side.ts';
import { Refused } from './refusal.ts';
import { assertOwnHost } from './request-target.ts';

/** The list of datasources, of the door itself: `$OUTRIDER_URL/datasources`. */
const PATH = '/datasources';

/** What asking for the list is held to; no rule of a policy names it. */
export const DISCOVERY = {
  policy: '',
  rule: PATH,
  limits: { rate: { count: 60, perMs: 60_000 }, burst: 10, concurrent: 2 },
} as const;

export function asksForDatasources({ url }: ProgramRequest): boolean {
  return url === PATH;
}

/**
 * Asks the proxy which datasources the role of the exec may ask now, and streams its answer back. It is the proxy's own list, so it is
 * of the policy in force whenever a program asks. @throws {Refused} what is not a GET without a body, to the door itself
 */
export function askDatasources(
  call: Pick<AnsweredCall, 'exchange' | 'request' | 'response'> & {
    readonly binding: Binding;
    readonly nowMs: number;
  },
): void {
  const { exchange, request, binding, nowMs } = call;
  exchange.own = PATH;
  assertOwnHost(request);
  if (request.method !== 'GET') throw new Refused('method_not_allowed');
  if (hasBody(request.rawHeaders)) throw new Refused('body_too_large');
  const token = binding.token(nowMs);
  exchange.forwarded = true;
  binding.pool.dispatch(
    {
      method: 'GET',
      path: PATH,
      headers: [
        ['host', 'outrider.internal'],
        ['x-request-id', exchange.requestId],
        ['proxy-authorization', `Bearer ${token}`],
      ].flat(),
      body: null,
    },
    new AnswerRelay({
      ...call,
      target: { method: 'GET' },
      grant: { limits: {}, rule: DISCOVERY.rule },
    }),
  );
}
