import type { Ground } from './ground.ts';
import { type Program, type Run, saidBy, type Target } from './target.ts';

export type Group = 'resources' | 'kernel' | 'filesystem' | 'network' | 'tenancy';

/** One item of the battery. */
export interface Attack {
  /** Its number in the list of docs/redteam.md; never used again for another. */
  readonly id: number;
  readonly group: Group;
  /** What the attacker wants. */
  readonly name: string;
  /** Lays out on the host what the attack aims at, and says how harm would show there. */
  readonly stage?: (ground: Ground) => void | Promise<void>;
  /** Does it. Whatever is neither refused nor absent counts as an escape. */
  readonly attempt: (target: Target, ground: Ground) => Promise<Finding>;
  readonly control: Control;
  /** Why success inside a kernel that is not the host's is no escape, unless the host shows harm. */
  readonly virtual?: string;
  /** Why it cannot be tried on this target. */
  readonly unfit?: (target: Target, ground: Ground) => string | undefined;
}

/** The same attack where the protection is off: it must be seen to work there. */
export interface Control {
  /** What is missing there. */
  readonly how: string;
  readonly target: (ground: Ground, attacked: Target) => Target | Promise<Target>;
}

export interface Finding {
  /** `unclear` is an escape on a target, and no proof on a control. */
  readonly outcome: 'refused' | 'escaped' | 'absent' | 'unclear';
  readonly detail: string;
}

export const refused = (detail: string): Finding => ({ outcome: 'refused', detail });
export const escaped = (detail: string): Finding => ({ outcome: 'escaped', detail });
/** It did not come to either. */
export const unclear = (detail: string): Finding => ({ outcome: 'unclear', detail });
/** The thing to be attacked is not there. */
export const absent = (detail: string): Finding => ({ outcome: 'absent', detail });

export interface ProgramOptions extends Omit<Program, 'code' | 'params' | 'signal'> {
  /** Ends that are a refusal in themselves: a limit that was reached. */
  readonly ends?: readonly string[];
}

/** The usual attempt: one program in a fresh sandbox, that says itself what came of it. */
export function program(code: string, { ends = [], ...options }: ProgramOptions = {}) {
  return async (target: Target, ground: Ground): Promise<Finding> => {
    const run = await target.run({ ...options, code, params: ground.params });
    return findingOf(run, ends);
  };
}

/** A limit's end speaks for itself; otherwise the program must have said that it was refused, and have ended by itself. */
export function findingOf(run: Run, ends: readonly string[] = []): Finding {
  const said = saidBy(run);
  const end = endText(run);
  if (said?.outcome === 'escaped') return escaped(said.detail);
  if (ends.includes(run.killedBy)) return refused(`ended by ${end}`);
  if (run.killedBy !== 'exit') return unclear(`it ended by ${end}, which is not how it should`);
  if (said) return said;
  const wrote = run.stderr.toString('utf8').trim().split('\n').at(-1) ?? '';
  return unclear(`it did not say how it ended (${end}${wrote ? `: ${wrote}` : ''})`);
}

export function endText({ killedBy, signal, exitCode }: Run): string {
  if (killedBy === 'exit') return `exit ${exitCode ?? '?'}`;
  return signal ? `${killedBy} ${signal}` : killedBy;
}
