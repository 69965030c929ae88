import { setTimeout as sleep } from 'node:timers/promises';
import type { Session } from './session.ts';

const WITHIN_MS = 30_000;

/** Has the server count on the event stream of a session; resolves to what was wrong with what came, undefined where it was 1, 2, 3, ... without a gap or a double. */
export async function countOn(
  session: Session,
  to: number,
  everyMs: number,
): Promise<string | undefined> {
  const seen: unknown[] = [];
  const deadline = performance.now() + WITHIN_MS;
  let last: unknown;
  let opened = () => {};
  const open = new Promise<void>((resolve) => {
    opened = resolve;
  });
  const listening = (async () => {
    const wanted = () => last !== to && performance.now() < deadline;
    for await (const event of session.events(wanted, opened)) {
      last = Object(Object(event).params).data;
      if (last !== undefined) seen.push(last);
    }
  })();
  await Promise.race([open, sleep(WITHIN_MS, undefined, { ref: false })]);
  const asked = await session.call('count', { to, everyMs });
  if (asked.problem !== undefined) return `count was not called: ${asked.problem}`;
  await Promise.race([listening, sleep(WITHIN_MS, undefined, { ref: false })]);
  const wanted = Array.from({ length: to }, (_, index) => index + 1);
  return seen.join() === wanted.join() ? undefined : `of 1 to ${to} there came ${seen.join()}`;
}
