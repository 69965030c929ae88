import type { Upstream } from './relay/balancer.ts';

const ANSWERS_WITHIN_MS = 1_500;

/** Undefined when at least one server says on `/readyz` that it is ready, otherwise what a person should know. */
export async function serversProblem(upstreams: readonly Upstream[]): Promise<string | undefined> {
  const ready = await Promise.all(upstreams.map(isReady));
  return ready.includes(true)
    ? undefined
    : `none of ${upstreams.length} servers is ready: their own /readyz says why`;
}

async function isReady({ pool }: Upstream): Promise<boolean> {
  try {
    const { statusCode, body } = await pool.request({
      method: 'GET',
      path: '/readyz',
      signal: AbortSignal.timeout(ANSWERS_WITHIN_MS),
    });
    await body.dump();
    return statusCode === 200;
  } catch {
    return false;
  }
}
