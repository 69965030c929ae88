import { setTimeout as sleep } from 'node:timers/promises';
import type { Replica } from '../../support/replica.ts';

const WITHIN_MS = 30_000;

/** Waits until every gateway says that its server number `index` can be reached, or cannot; false where one of them does not within 30 s. */
export async function backendUpAt(
  gateways: readonly Replica[],
  index: number,
  up: boolean,
): Promise<boolean> {
  const said = await Promise.all(gateways.map((gateway) => backendUp(gateway, index, up)));
  return said.every(Boolean);
}

async function backendUp(gateway: Replica, index: number, up: boolean): Promise<boolean> {
  const deadline = performance.now() + WITHIN_MS;
  const line = new RegExp(
    `^outrider_backend_up\\{[^}]*backend="${index}"[^}]*\\} ${up ? 1 : 0}$`,
    'm',
  );
  while (performance.now() < deadline) {
    if (line.test(await metricsOf(gateway))) return true;
    await sleep(50);
  }
  return false;
}

/** What a part's /metrics says. */
export async function metricsOf({ port }: Replica): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`);
  return response.text();
}
