import type { Attack, Finding } from './attack.ts';

/** What became of one attack on one target. Only `refused` is good; `n/a` says why it could not be tried. */
export interface Verdict {
  readonly result: 'refused' | 'ESCAPED' | 'control-failed' | 'n/a';
  readonly detail: string;
}

/** Everything that was seen of one attempt. */
export interface Seen {
  readonly finding: Finding;
  /** What the host shows; undefined for no harm. */
  readonly harm: string | undefined;
  /** What is wrong with the neighbours afterwards; undefined where they answer as before. */
  readonly unwell: string | undefined;
  /** The target has a kernel of its own. */
  readonly ownKernel: boolean;
}

/** Whether the control did what it is for: the attack must have been seen to work. */
export interface Proof {
  readonly result: 'works' | 'failed' | 'n/a';
  readonly detail: string;
}

/**
 * Harm to the host, an unwell neighbour, a success that is told and an attempt that does not say how it ended are escapes alike.
 * A refusal counts only where the control has shown that success would have been noticed. Pure.
 */
export function judge({ virtual }: Pick<Attack, 'virtual'>, seen: Seen, proof: Proof): Verdict {
  const { finding, harm, unwell, ownKernel } = seen;
  if (harm !== undefined) return { result: 'ESCAPED', detail: harm };
  if (unwell !== undefined) return { result: 'ESCAPED', detail: unwell };
  const contained = finding.outcome === 'escaped' && ownKernel && virtual !== undefined;
  if (finding.outcome === 'escaped' && !contained)
    return { result: 'ESCAPED', detail: finding.detail };
  if (finding.outcome === 'unclear') return { result: 'ESCAPED', detail: finding.detail };
  if (finding.outcome === 'absent') return { result: 'n/a', detail: finding.detail };
  if (proof.result === 'failed') return { result: 'control-failed', detail: proof.detail };
  if (proof.result === 'n/a') return { result: 'n/a', detail: proof.detail };
  if (contained) return { result: 'refused', detail: `${virtual}: ${finding.detail}` };
  return { result: 'refused', detail: finding.detail };
}

/** What a control showed. Being told of success, and harm, are both a hit. Pure. */
export function proofOf({ finding, harm }: Pick<Seen, 'finding' | 'harm'>): Proof {
  if (harm !== undefined) return { result: 'works', detail: harm };
  if (finding.outcome === 'escaped') return { result: 'works', detail: finding.detail };
  if (finding.outcome === 'absent') return { result: 'n/a', detail: finding.detail };
  if (finding.outcome === 'unclear') return { result: 'failed', detail: finding.detail };
  return { result: 'failed', detail: `the attack was refused here too: ${finding.detail}` };
}
