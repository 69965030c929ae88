import type { Readable, Writable } from 'node:stream';
import { toOutriderError } from '#core/errors';
import type { Launcher } from './launcher.ts';
import { linesOf } from './lines.ts';
import type { PolicyPages } from './policy-pages.ts';
import { type Answer, type Numbered, parseAsk, problemOf } from './protocol.ts';

/** What carries the verbs out. */
export interface Served {
  readonly launcher: Launcher;
  readonly policies: PolicyPages;
}

/**
 * Answers the verbs that come in as lines until the input ends. Verbs are carried out side by side; a line that is not one ends the
 * service, because then the other side is not a runner of ours. Resolves at that end; never rejects.
 */
export async function serve(
  input: Readable,
  served: Served,
  send: (answer: Answer) => void,
): Promise<void> {
  try {
    for await (const line of linesOf(input)) {
      const ask = parseAsk(line);
      void carryOut(served, ask).then(
        (ok) => send({ id: ask.id, ok: ok ?? null }),
        (error: unknown) => send({ id: ask.id, error: problemOf(toOutriderError(error)) }),
      );
    }
  } catch {
    // The pipe broke, or a line was no verb.
  }
}

/** Writes answers as lines; one that cannot be written has nobody to read it. */
export function answering(output: Writable): (answer: Answer) => void {
  output.on('error', () => {});
  return (answer) => void output.write(`${JSON.stringify(answer)}\n`);
}

async function carryOut({ launcher, policies }: Served, ask: Numbered): Promise<unknown> {
  if (ask.verb === 'probe') return launcher.probe(ask.backend);
  if (ask.verb === 'place') return launcher.place(ask.sandboxId);
  if (ask.verb === 'start') return launcher.start(ask.backend, ask);
  if (ask.verb === 'settle') return launcher.settle(ask.sandboxId);
  if (ask.verb === 'kill') return launcher.kill(ask.sandboxId);
  if (ask.verb === 'counters') return launcher.counters(ask.sandboxId);
  if (ask.verb === 'forget') return launcher.forget(ask.sandboxId);
  if (ask.verb === 'policySignature') return policies.signature();
  if (ask.verb === 'readPolicies') return policies.read();
  return policies.page(ask.page);
}
