import type { Answered, Told } from './door.ts';
import { hostText, type Reading, type Seen, splitUrl, whatwgUrl } from './reading.ts';
import type { Recorded } from './recorder.ts';

/** What another reader understood otherwise than the door did, of that which the door let through; none is what is wanted. */
export function difference(told: Told, reading: Reading, inside: boolean): string | undefined {
  for (const [at, answer] of told.answers.entries()) {
    if (answer.kind === 'refused' || answer.kind === 'tunnel') return undefined;
    // A denial does not wait for the body; only another request behind it says that the door has read it to its end.
    const next = told.answers[at + 1];
    if (answer.kind === 'denied' && (next === undefined || next.kind === 'refused'))
      return undefined;
    const seen = reading.requests[at];
    if (!seen) return missing(at, answer, reading);
    const found = answer.kind === 'forwarded' && otherwise(answer.recorded, seen, inside);
    if (found) return `request ${at + 1}: ${found}`;
  }
  const more = reading.requests[told.answers.length];
  // What came after is still under way in the door, or has been cut by it: nothing of it has left.
  return more && !told.closed && told.answers.length > 0
    ? `request ${told.answers.length + 1}: it reads ${more.method} ${more.target}, the door waits`
    : undefined;
}

/** A reader that is stricter, or that looks at no more of a connection, has not read anything else. */
function missing(at: number, answer: Answered, { after }: Reading): string | undefined {
  if (after === 'refused' || after === 'closed') return undefined;
  const what = answer.kind === 'forwarded' ? answer.recorded.url : answer.kind;
  return `request ${at + 1}: the door reads one (${what}), it sees ${after}`;
}

function otherwise(ours: Recorded, theirs: Seen, inside: boolean): string | undefined {
  if (theirs.method !== ours.method) return `method ${theirs.method}, not ${ours.method}`;
  const url = splitUrl(ours.url) ?? ours.url;
  const target = targetOf(theirs, ours, inside);
  if (target === undefined || quotes(target) !== quotes(url))
    return `target ${target ?? theirs.target}, not ${url}`;
  if (theirs.body !== ours.body)
    return `body ${JSON.stringify(theirs.body)}, not ${JSON.stringify(ours.body)}`;
  if (theirs.host !== undefined && !sameHost(theirs, url, inside))
    return `host ${theirs.host}, not that of ${url}`;
  return undefined;
}

/** Four characters of a query WHATWG's URL writes otherwise; decoded they are the same, and nobody decides by that. */
function quotes(url: string): string {
  const [path = '', ...query] = url.split('?');
  const decoded = query.map((part) => part.replace(/%(?:22|27|3C|3E)/g, decodeURIComponent));
  return [path, ...decoded].join('?');
}

const ALIAS = /^http:\/\/prometheus-main\.outrider\.internal(?=\/)/;

/** Where a reader that is told nothing of the door would go: a path belongs to the host that is being talked to. */
function targetOf({ target, url }: Seen, ours: Recorded, inside: boolean): string | undefined {
  if (!target.startsWith('/')) return url;
  if (inside) return whatwgUrl(`http://api.allowed.test${target}`);
  const path = ours.url.replace(ALIAS, '');
  const spellings = ['/prometheus/main', '/prometheus'].flatMap((alias) => [
    `${alias}${path}`,
    `${alias}${path.replace(/^\/(?=\?|$)/, '')}`,
  ]);
  return spellings.includes(target) ? splitUrl(ours.url) : undefined;
}

function sameHost({ host = '', target }: Seen, url: string, inside: boolean): boolean {
  if (target.startsWith('/') && !inside) return /^(127\.0\.0\.1|localhost|\[::1\])/i.test(host); // the door's own
  const [, name = '', port = '80'] = /^(.*?)(?::(\d*))?$/.exec(host.trim()) ?? [];
  const named = `http://${hostText(name)}:${port}`;
  if (!URL.canParse(named) || !URL.canParse(url)) return false;
  return new URL(named).host === new URL(url).host;
}
