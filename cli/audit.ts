import { auditSearch } from './audit-search.ts';
import { WrongAuditUsage } from './audit-usage.ts';
import { auditVerify } from './audit-verify.ts';

const USAGE = `usage: outrider audit COMMAND FILE|DIR... [options]

  verify [--keys FILE]... [--head WRITER:SEQ:HASH]... [--json]
                       whether a record was changed, removed, repeated or reordered
  tail [-n COUNT] [FILTER]...
                       the last records, 20 unless told
  search [-n COUNT] [FILTER]...
                       all records, the oldest first

FILTER is --FIELD VALUE of a record (--subject, --tenant, --role, --datasource, --verdict, --code, --reason, --rule, --credential,
--event, --method, --status, --sandbox, --exec, --request, --egress, --writer), --text PART of its target or query, --since and
--until a time as in records, or so long ago as 10m. Records come out as they are stored, one a line.
Of a directory, all *.jsonl files are read, full ones before the current one of their series, and for verify *.head.json.
Signatures are checked with the keys of --keys, otherwise with the public keys in audit-keys/ beside the directory.
Exit: 0 nothing wrong, or something found; 1 findings, nothing found, or a file cannot be read; 2 wrong usage.
`;

/** `outrider audit verify|tail|search`: resolves to the exit code. */
export async function audit(
  argv: readonly string[],
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<number> {
  const [verb, ...rest] = argv;
  if (argv.includes('--help') || argv.includes('-h')) {
    out.write(USAGE);
    return 0;
  }
  try {
    if (verb === 'verify') return await auditVerify(rest, out);
    if (verb === 'tail' || verb === 'search') return await auditSearch(verb, rest, out);
    throw new WrongAuditUsage(
      verb === undefined ? '' : `there is no \`outrider audit ${verb}\` in this version`,
    );
  } catch (error) {
    if (error instanceof WrongAuditUsage) {
      err.write(error.message === '' ? USAGE : `${error.message}\n\n${USAGE}`);
      return 2;
    }
    err.write(`${error instanceof Error ? error.message : 'the audit cannot be read'}\n`);
    return 1;
  }
}
