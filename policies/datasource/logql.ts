import { durationMs, type Matcher, type QueryReach } from './promql.ts';
import { NotUnderstood, Reader, tokensOf } from './tokens.ts';

/**
 * What a LogQL query reads; undefined where it has anything that is not known here (comments, single quotes). Streams are named
 * in braces alone, so every brace outside of a string begins a selector, wherever it stands.
 * https://grafana.com/docs/loki/latest/query/
 */
export function readLogql(query: string): QueryReach | undefined {
  const tokens = tokensOf(query, LEXICON);
  if (!tokens) return undefined;
  const reader = new Reader(tokens);
  const selectors: Matcher[][] = [];
  const ranges: number[] = [];
  try {
    while (!reader.done) {
      if (reader.take('{')) selectors.push(matchersOf(reader));
      else if (reader.take('[')) ranges.push(durationMs(reader.expectKind('number')));
      else if (reader.take('}')) return undefined;
      else reader.next();
    }
  } catch (error) {
    if (error instanceof NotUnderstood) return undefined;
    throw error;
  }
  return selectors.length === 0 ? undefined : { selectors, ranges, steps: [] };
}

const LEXICON = {
  patterns: [
    ['space', /[ \t\r\n]+/y],
    ['string', /"((?:[^"\\\n]|\\.)*)"/y],
    ['string', /`([^`]*)`/y],
    ['number', /(?:\d+(?:\.\d+)?(?:ns|us|ms|[smhdwy]|[kKMGTPE]?i?[bB])?)+(?![\w.])/y],
    ['word', /[A-Za-z_][A-Za-z0-9_]*/y],
    ['sign', /==|!=|<=|>=|=~|!~|\|=|\|~|\|>|!>|[-+*/%^<>=(){}[\],|:@]/y],
  ],
} as const;

const MATCHES = ['=', '!=', '=~', '!~'];

function matchersOf(reader: Reader): Matcher[] {
  const found: Matcher[] = [];
  while (!reader.take('}')) {
    const label = reader.expectKind('word');
    const sign = MATCHES.find((each) => reader.take(each));
    if (sign === undefined) throw new NotUnderstood();
    found.push({ label, sign, value: reader.expectKind('string') });
    if (!reader.take(',') && !reader.isSign('}')) throw new NotUnderstood();
  }
  return found;
}
