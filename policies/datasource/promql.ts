import { NotUnderstood, Reader, tokensOf } from './tokens.ts';

/** `label="value"`, with the text between the quotes as it is written. */
export interface Matcher {
  readonly label: string;
  readonly sign: string;
  readonly value: string;
}

/** What a query reads. */
export interface QueryReach {
  /** The matchers of every selector in it. */
  readonly selectors: readonly (readonly Matcher[])[];
  /** Every time in brackets, in milliseconds. */
  readonly ranges: readonly number[];
  /** The step of every subquery that has one, in milliseconds. */
  readonly steps: readonly number[];
}

/**
 * What a PromQL query reads; undefined where it is not of the grammar that is read here, which is that of Prometheus 3 without
 * comments, `info` and other functions that read what they do not name. Every name that is neither called nor a word of the
 * grammar in its place is a selector: in doubt there is one more of them than the server would see.
 * https://prometheus.io/docs/prometheus/latest/querying/basics/
 */
export function readPromql(query: string): QueryReach | undefined {
  const tokens = tokensOf(query, LEXICON);
  return tokens && read(new Reader(tokens), (promql) => promql.expression());
}

/** A selector alone, as `match[]` has it. */
export function readSelector(selector: string): QueryReach | undefined {
  const tokens = tokensOf(selector, LEXICON);
  return tokens && read(new Reader(tokens), (promql) => promql.selectorAlone());
}

function read(reader: Reader, parse: (promql: Promql) => void): QueryReach | undefined {
  const promql = new Promql(reader);
  try {
    parse(promql);
    return reader.done ? promql : undefined;
  } catch (error) {
    if (error instanceof NotUnderstood) return undefined;
    throw error;
  }
}

const LEXICON = {
  patterns: [
    ['space', /[ \t\r\n]+/y],
    ['string', /"((?:[^"\\\n]|\\.)*)"/y],
    ['string', /'((?:[^'\\\n]|\\.)*)'/y],
    ['string', /`([^`]*)`/y],
    ['number', /(?:\d+(?:ms|[smhdwy]))+(?![\w.])/y],
    ['number', /(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])/y],
    // A name that begins with a colon could as well be the step of a subquery.
    ['word', /[A-Za-z_][A-Za-z0-9_:]*/y],
    ['sign', /==|!=|<=|>=|=~|!~|[-+*/%^<>=(){}[\],:@]/y],
  ],
} as const;

const AGGREGATIONS = new Set(
  (
    'sum avg min max count count_values stddev stdvar bottomk topk quantile group limitk ' +
    'limit_ratio'
  ).split(' '),
);

/** Those of Prometheus 3 that read their arguments and nothing else. */
const FUNCTIONS = new Set(
  (
    'abs absent absent_over_time acos acosh asin asinh atan atanh avg_over_time ceil changes clamp clamp_max ' +
    'clamp_min cos cosh count_over_time day_of_month day_of_week day_of_year days_in_month deg delta deriv exp ' +
    'double_exponential_smoothing first_over_time floor histogram_avg histogram_count histogram_fraction ' +
    'histogram_quantile histogram_stddev histogram_stdvar histogram_sum holt_winters hour idelta increase irate ' +
    'label_join label_replace last_over_time ln log10 log2 mad_over_time max_over_time min_over_time minute month pi ' +
    'predict_linear present_over_time quantile_over_time rad rate resets round scalar sgn sin sinh sort sort_by_label ' +
    'sort_by_label_desc sort_desc sqrt stddev_over_time stdvar_over_time sum_over_time tan tanh time timestamp ' +
    'ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time ts_of_min_over_time vector year'
  ).split(' '),
);

const OPERATORS = ['+', '-', '*', '/', '%', '^', '==', '!=', '<=', '>=', '<', '>'];
const WORD_OPERATORS = ['and', 'or', 'unless', 'atan2'];
const MATCHES = ['=', '!=', '=~', '!~'];

/** A recursive descent. Precedence does not matter to what is read, so there is none. */
class Promql implements QueryReach {
  readonly selectors: (readonly Matcher[])[] = [];
  readonly ranges: number[] = [];
  readonly steps: number[] = [];
  readonly #reader: Reader;

  constructor(reader: Reader) {
    this.#reader = reader;
  }

  expression(): void {
    this.#reader.nested(() => {
      this.#operand();
      while (this.#operator()) this.#operand();
    });
  }

  selectorAlone(): void {
    const name = this.#reader.peek()?.kind === 'word';
    if (name) this.#reader.next();
    this.selectors.push(this.#matchers(!name));
  }

  #operator(): boolean {
    const reader = this.#reader;
    const isOperator =
      OPERATORS.some((sign) => reader.take(sign)) ||
      reader.takeWord(...WORD_OPERATORS) !== undefined;
    if (!isOperator) return false;
    reader.takeWord('bool');
    if (this.#grouping('on', 'ignoring')) {
      if (reader.takeWord('group_left', 'group_right') && reader.isSign('(')) this.#names();
    }
    return true;
  }

  #operand(): void {
    const reader = this.#reader;
    while (reader.take('+') || reader.take('-'));
    this.#primary();
    for (;;) {
      if (reader.take('[')) this.#range();
      else if (reader.takeWord('offset')) this.#offset();
      else if (reader.take('@')) this.#moment();
      else return;
    }
  }

  #primary(): void {
    const reader = this.#reader;
    if (reader.take('(')) {
      this.expression();
      return reader.expect(')');
    }
    if (reader.isSign('{')) return void this.selectors.push(this.#matchers(true));
    const token = reader.next();
    if (token.kind === 'number' || token.kind === 'string') return;
    if (token.kind !== 'word') throw new NotUnderstood();
    this.#named(token.text);
  }

  #named(name: string): void {
    const reader = this.#reader;
    const lower = name.toLowerCase();
    const grouped =
      AGGREGATIONS.has(lower) &&
      (reader.isSign('(') || ['by', 'without'].includes(reader.peekWord() ?? ''));
    if (grouped) return this.#aggregation();
    if (reader.isSign('(')) {
      if (!FUNCTIONS.has(name)) throw new NotUnderstood();
      return this.#arguments();
    }
    if (/^(?:inf|nan)$/.test(lower) && !reader.isSign('{')) return;
    this.selectors.push(this.#matchers(false));
  }

  #aggregation(): void {
    const before = this.#grouping('by', 'without');
    this.#arguments();
    if (!before) this.#grouping('by', 'without');
  }

  #arguments(): void {
    const reader = this.#reader;
    reader.expect('(');
    if (reader.take(')')) return;
    do this.expression();
    while (reader.take(','));
    reader.expect(')');
  }

  #grouping(...words: readonly string[]): boolean {
    if (this.#reader.takeWord(...words) === undefined) return false;
    this.#names();
    return true;
  }

  #names(): void {
    const reader = this.#reader;
    reader.expect('(');
    while (!reader.take(')')) {
      const { kind } = reader.next();
      if (kind !== 'word' && kind !== 'string') throw new NotUnderstood();
      if (!reader.take(',') && !reader.isSign(')')) throw new NotUnderstood();
    }
  }

  /** `{label="value", ...}`; the braces may be missing behind a name. */
  #matchers(braced: boolean): Matcher[] {
    const reader = this.#reader;
    const found: Matcher[] = [];
    if (!braced && !reader.isSign('{')) return found;
    reader.expect('{');
    while (!reader.take('}')) {
      found.push(...this.#matcher());
      if (!reader.take(',') && !reader.isSign('}')) throw new NotUnderstood();
    }
    return found;
  }

  #matcher(): Matcher[] {
    const reader = this.#reader;
    const { kind, text: label } = reader.next();
    const sign = MATCHES.find((each) => reader.take(each));
    // A string alone is the name of the metric.
    if (sign === undefined && kind === 'string') return [];
    if (sign === undefined || (kind !== 'word' && kind !== 'string')) throw new NotUnderstood();
    return [{ label, sign, value: reader.expectKind('string') }];
  }

  /** `5m]`, or `1h:5m]` and `1h:]` of a subquery. */
  #range(): void {
    const reader = this.#reader;
    this.ranges.push(durationMs(reader.expectKind('number')));
    if (reader.take(':') && !reader.isSign(']'))
      this.steps.push(durationMs(reader.expectKind('number')));
    reader.expect(']');
  }

  #offset(): void {
    this.#reader.take('-');
    this.#reader.expectKind('number');
  }

  #moment(): void {
    const reader = this.#reader;
    if (reader.takeWord('start', 'end')) {
      reader.expect('(');
      return reader.expect(')');
    }
    if (!reader.take('-')) reader.take('+');
    reader.expectKind('number');
  }
}

const UNIT_MS = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  y: 31_536_000_000,
};

/** Of `1h30m`, or of seconds as a number. */
export function durationMs(text: string): number {
  const parts = [...text.matchAll(/(\d+)(ms|[smhdwy])/g)];
  if (parts.map(([part]) => part).join('') !== text) return Number(text) * 1_000;
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * unitMs(unit), 0);
}

function unitMs(unit: string | undefined): number {
  return Object.entries(UNIT_MS).find(([name]) => name === unit)?.[1] ?? Number.NaN;
}
