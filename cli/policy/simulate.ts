import { printable } from '#core/printable';
import type { Phase } from '#policies';
import { type Replay, Simulation } from '#policystore/review';
import { type AuditRequest, auditFiles, auditRequests } from './audit-requests.ts';
import {
  EXIT,
  type Io,
  type PolicyCommand,
  parseCommand,
  WrongUsage,
  writeJson,
} from './command.ts';
import { loadPolicy } from './source.ts';

/** `outrider policy simulate`: an audit, replayed against another policy. */
export const command: PolicyCommand = {
  usage: `DIR AUDIT... [--phase run|install] [--json]

Decides every request of audit files (or of every *.jsonl of a directory) again, by the policies of DIR and as of now, and says
which would be refused that were not, allowed that were not, or carry another credential: how many of each kind, with an example.
A request that sidecar and proxy both recorded counts once. Limits, what names led to, and queries that the audit does not
have are not looked at.

  --phase   install: the audit is of dependencies being installed (records do not say)

DIR is a directory, or REV:PATH for one in a Git revision.
Exit: 0 nothing would be different; 1 something would; 2 something cannot be read, or wrong usage.
`,
  async run(argv, io) {
    const asked = parse(argv);
    const { set } = await loadPolicy(asked.directory);
    const outcome = simulate(new Simulation(set, asked.phase, Date.now()), asked.audit);
    if (asked.json) writeJson(io.out, outcome);
    else report(outcome, io);
    return outcome.differences.length === 0 ? EXIT.fine : EXIT.found;
  },
};

interface Asked {
  readonly directory: string;
  readonly audit: readonly string[];
  readonly phase: Phase;
  readonly json: boolean;
}

function parse(argv: readonly string[]): Asked {
  const { values, positionals } = parseCommand(argv, {
    json: { type: 'boolean', default: false },
    phase: { type: 'string', default: 'run' },
  });
  const [directory, ...audit] = positionals;
  if (directory === undefined || audit.length === 0)
    throw new WrongUsage('which policies and which audit? DIR and one AUDIT or several');
  const { phase, json } = values;
  if (phase !== 'run' && phase !== 'install')
    throw new WrongUsage('which phase? --phase run, or install');
  return { directory, audit: audit.flatMap(auditFiles), phase, json };
}

/** Requests of one role to one place that would all end differently in the same way. */
interface Difference {
  readonly kind: 'allowed' | 'denied' | 'credential';
  readonly role: string;
  /** Host or datasource. */
  readonly place: string;
  /** By which rule, for which reason, or which credentials. */
  readonly why: string;
  count: number;
  readonly example: string;
  readonly file: string;
  readonly line: number;
}

interface Simulated {
  readonly ok: boolean;
  readonly requests: number;
  readonly same: number;
  readonly undecided: number;
  readonly unknown: number;
  readonly differences: readonly Difference[];
}

function simulate(simulation: Simulation, audit: readonly string[]): Simulated {
  const counts = { same: 0, undecided: 0, unknown: 0 };
  const differences = new Map<string, Difference>();
  const seen = new Set<string>();
  let requests = 0;
  for (const record of auditRequests(audit)) {
    if (record.egressId !== '') {
      if (seen.has(record.egressId)) continue;
      seen.add(record.egressId);
    }
    requests += 1;
    const replay = simulation.replay(record);
    if ('text' in replay) addTo(differences, record, replay);
    else counts[replay.kind] += 1;
  }
  const sorted = [...differences.values()].toSorted((a, b) => b.count - a.count);
  return { ok: sorted.length === 0, requests, ...counts, differences: sorted };
}

function addTo(
  differences: Map<string, Difference>,
  { role, request = '', file, line }: AuditRequest,
  { kind, text }: Extract<Replay, { text: string }>,
): void {
  const place = placeOf(request);
  const key = [kind, role, place, text].join('\n');
  const known = differences.get(key);
  if (known) known.count += 1;
  else
    differences.set(key, { kind, role, place, why: text, count: 1, example: request, file, line });
}

/** The host, or the datasource, of a request. */
function placeOf(request: string): string {
  const where = request.slice(request.indexOf(' ') + 1);
  if (where.startsWith('/')) return where.split('/').slice(1, 3).join('/');
  return where.replace(/^https?:\/\//, '').replace(/[/?].*$/s, '');
}

const WORDS = {
  denied: 'would be refused',
  allowed: 'would be allowed',
  credential: 'would carry another credential',
} as const;

function report({ requests, same, undecided, unknown, differences }: Simulated, { out }: Io): void {
  for (const { kind, role, why, count, example, file, line } of differences)
    out.write(
      `${printable(`${count} ${WORDS[kind]} (${why}), role ${role || 'unknown'}: ${example} (${file}:${line})`)}\n`,
    );
  out.write(
    `${requests} requests: ${same} end as they did, ${requests - same - undecided - unknown} differently; ${undecided} were ended by something else than policy, of ${unknown} the audit does not tell enough\n`,
  );
}
