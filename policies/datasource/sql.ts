import type { ClickhouseGuard } from '../projection.ts';
import type { Reason } from '../reason.ts';
import { isHarmlessFunction } from './sql-functions.ts';
import { NotUnderstood, Reader, type Token, tokensOf } from './tokens.ts';

/** What a query may use; `functions` come on top of those that read nothing but their arguments. */
export type SqlGrant = Pick<ClickhouseGuard, 'tables' | 'functions' | 'settings'>;

/**
 * Why one ClickHouse statement is refused; undefined where all that it reads is granted. Read are SELECT (with WITH, joins,
 * subqueries, UNION), DESCRIBE, EXISTS and SHOW TABLES; everything that might be something else is refused, comments too. Tables
 * are written with their database. https://clickhouse.com/docs/sql-reference/syntax
 */
export function sqlRefusal(sql: string, grant: SqlGrant): Reason | undefined {
  const tokens = tokensOf(sql, LEXICON);
  if (!tokens) return 'query_not_understood';
  const last = tokens.at(-1);
  const statement = last && isSign(last, ';') ? tokens.slice(0, -1) : tokens;
  if (statement.some((token) => isSign(token, ';'))) return 'sql_multi_statement';
  try {
    new Statement(new Reader(statement), grant).read();
    return undefined;
  } catch (error) {
    if (error instanceof Refused) return error.reason;
    if (error instanceof NotUnderstood) return 'query_not_understood';
    throw error;
  }
}

/** Why a word is not taken where it stands; ends the reading. */
class Refused extends Error {
  override readonly name = 'Refused';
  readonly reason: Reason;

  constructor(reason: Reason) {
    super(reason);
    this.reason = reason;
  }
}

const LEXICON = {
  patterns: [
    ['space', /[ \t\r\n]+/y],
    ['string', /'((?:[^'\\]|\\[\s\S]|'')*)'/y],
    // Of quotes inside quotes nothing is read.
    ['quoted', /`([^`\\]+)`(?!`)/y],
    ['quoted', /"([^"\\]+)"(?!")/y],
    ['number', /(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])/y],
    ['word', /[A-Za-z_][A-Za-z0-9_]*/y],
    // `--` and `/*` begin comments.
    ['sign', /::|->|==|!=|<>|<=|>=|\|\||-(?!-)|\/(?!\*)|[+*%<>=()[\],.?:;]/y],
  ],
} as const;

const SET_OPERATIONS = ['union', 'intersect', 'except'];
/**
 * Behind these a comma no longer leads to another table. Words that some version takes for the alias of a table are not among
 * them (`window`, `qualify`): then one comma too many is taken for a table.
 */
const AFTER_FROM = new Set('where prewhere group having order limit settings'.split(' '));
/** Words of the grammar that may stand before a parenthesis without calling anything. */
const NO_CALLS = new Set(
  (
    'and or not on using over by then else when where prewhere having limit offset between like ilike is distinct ' +
    'case exists sets rollup cube filter div mod interval order group partition qualify select all global except replace'
  ).split(' '),
);
/** Databases that tell about the server: they are granted by name alone. */
const SYSTEM_DATABASES = ['system', 'information_schema', 'INFORMATION_SCHEMA'];
/** Table functions that read nothing. */
const TABLE_FUNCTIONS = ['numbers', 'numbers_mt', 'zeros', 'zeros_mt'];
const READS = ['select', 'with'];

class Statement {
  readonly #reader: Reader;
  readonly #grant: SqlGrant;

  constructor(reader: Reader, grant: SqlGrant) {
    this.#reader = reader;
    this.#grant = grant;
  }

  read(): void {
    const reader = this.#reader;
    const first = reader.peekWord();
    if (first === 'describe' || first === 'desc' || first === 'exists') this.#aboutTable();
    else if (first === 'show') this.#show();
    else if (READS.includes(first ?? '') || reader.isSign('(')) this.#query(new Set());
    else throw new Refused('sql_not_readonly');
    if (reader.takeWord('format')) reader.expectKind('word');
    if (reader.peekWord() === 'into') throw new Refused('sql_not_readonly');
    if (!reader.done) throw new NotUnderstood();
  }

  #aboutTable(): void {
    this.#reader.next();
    this.#reader.takeWord('table');
    this.#table(new Set());
  }

  #show(): void {
    const reader = this.#reader;
    reader.next();
    if (!reader.takeWord('tables') || !reader.takeWord('from', 'in')) throw new NotUnderstood();
    this.#assertGranted(this.#identifier(), '*');
    if (reader.takeWord('like')) reader.expectKind('string');
  }

  /** `SELECT ... UNION ALL SELECT ...`, each in parentheses or not. `names` are the queries that WITH has named. */
  #query(names: ReadonlySet<string>): void {
    const reader = this.#reader;
    reader.nested(() => {
      do {
        if (reader.take('(')) {
          this.#query(names);
          reader.expect(')');
        } else this.#select(names);
      } while (this.#setOperation());
    });
  }

  #setOperation(): boolean {
    if (this.#reader.takeWord(...SET_OPERATIONS) === undefined) return false;
    this.#reader.takeWord('all', 'distinct');
    return true;
  }

  #select(outer: ReadonlySet<string>): void {
    const names = this.#reader.takeWord('with') ? this.#with(outer) : outer;
    if (!this.#reader.takeWord('select')) throw new NotUnderstood();
    this.#scan(names, true);
  }

  /** `name AS (SELECT ...)` or `expression AS name`. A name is known to what comes behind it, not to itself. */
  #with(outer: ReadonlySet<string>): ReadonlySet<string> {
    const reader = this.#reader;
    const names = new Set(outer);
    do {
      const isQuery =
        reader.peekWord(1) === 'as' &&
        reader.isSign('(', 2) &&
        READS.includes(reader.peekWord(3) ?? '');
      if (isQuery) {
        const name = this.#identifier();
        reader.takeWord('as');
        this.#parenthesis(names);
        names.add(name);
      } else this.#scan(names, false);
    } while (reader.take(','));
    return names;
  }

  /**
   * Everything up to the end of a select, or up to a comma or bracket where it is not a select. What is looked for is each place in which a table can be named and
   * each call; the rest need not be understood for that.
   */
  #scan(names: ReadonlySet<string>, inSelect: boolean): void {
    const reader = this.#reader;
    let commaIsTable = false;
    for (;;) {
      const token = reader.peek();
      if (!token || isSign(token, ')') || isSign(token, ']')) return;
      const word = reader.peekWord();
      if (inSelect && this.#endsSelect(word)) return;
      if (!inSelect && (word === 'select' || isSign(token, ','))) return;
      if (isSign(token, '(')) this.#parenthesis(names);
      else if (isSign(token, '[')) this.#list(names);
      else if (token.kind === 'sign') {
        reader.next();
        if (token.text === ',' && commaIsTable) this.#tableOrQuery(names);
        if (token.text === '.') this.#behindDot();
      } else if (word === undefined) this.#name(names);
      else if (word === 'from' || word === 'join') {
        if (!inSelect) throw new NotUnderstood();
        reader.next();
        this.#tableOrQuery(names);
        commaIsTable = true;
      } else if (word === 'array' && reader.peekWord(1) === 'join') {
        reader.next();
        reader.next();
        commaIsTable = false;
      } else {
        if (AFTER_FROM.has(word)) {
          this.#assertClause(word);
          commaIsTable = false;
        }
        this.#word(word, names);
      }
    }
  }

  /** A word that begins a clause has something behind it. */
  #assertClause(word: string): void {
    const isBy = word === 'group' || word === 'order';
    if (this.#reader.isSign(',', 1) || (isBy && this.#reader.peekWord(1) !== 'by'))
      throw new NotUnderstood();
  }

  /** Every word is a name there, and nothing is called. */
  #behindDot(): void {
    const reader = this.#reader;
    if (reader.peek()?.kind !== 'word') return;
    reader.next();
    if (reader.isSign('(')) throw new NotUnderstood();
  }

  /** Whether a select ends here and something begins that belongs to what is around it. */
  #endsSelect(word: string | undefined): boolean {
    const reader = this.#reader;
    if (word === 'format' || word === 'into') return !reader.isSign('(', 1);
    if (word === 'union' || word === 'intersect') return true;
    // `* EXCEPT (column)` is not `EXCEPT (SELECT ...)`.
    if (word !== 'except') return false;
    const [next, behind] = [reader.peekWord(1), reader.peekWord(2)];
    return (
      ['select', 'with', 'all', 'distinct'].includes(next ?? '') ||
      (reader.isSign('(', 1) && (READS.includes(behind ?? '') || reader.isSign('(', 2)))
    );
  }

  #word(word: string, names: ReadonlySet<string>): void {
    const reader = this.#reader;
    switch (word) {
      case 'select':
      case 'apply':
      case 'outfile':
      case 'recursive':
      case 'view':
        throw new NotUnderstood();
      case 'into':
        throw new Refused('sql_not_readonly');
      case 'with':
        reader.next();
        if (!reader.takeWord('totals', 'fill', 'ties', 'rollup', 'cube')) throw new NotUnderstood();
        return;
      case 'as':
        reader.next();
        // An alias may be any word; with a parenthesis behind it, it is a type.
        if (!reader.isSign('(', 1)) this.#identifier();
        return;
      case 'in':
        reader.next();
        return this.#rightOfIn(names);
      case 'settings':
        reader.next();
        return this.#settings();
      default:
        return this.#name(names);
    }
  }

  /** A name, a literal, or a call. */
  #name(names: ReadonlySet<string>): void {
    const { kind, text } = this.#reader.next();
    if (kind === 'string' || kind === 'number' || !this.#reader.isSign('(')) return;
    if (kind === 'word' && NO_CALLS.has(text.toLowerCase())) return;
    this.#assertFunction(text);
    this.#parenthesis(names);
  }

  #assertFunction(name: string): void {
    if (!isHarmlessFunction(name) && !this.#grant.functions.includes(name))
      throw new Refused('sql_function_forbidden');
  }

  #parenthesis(names: ReadonlySet<string>): void {
    const reader = this.#reader;
    reader.nested(() => {
      reader.expect('(');
      if (READS.includes(reader.peekWord() ?? '')) this.#query(names);
      else this.#elements(names);
      reader.expect(')');
    });
  }

  #list(names: ReadonlySet<string>): void {
    const reader = this.#reader;
    reader.nested(() => {
      reader.expect('[');
      this.#elements(names);
      reader.expect(']');
    });
  }

  /** What stands between brackets, with commas that lead to nothing but the next expression. */
  #elements(names: ReadonlySet<string>): void {
    do this.#scan(names, false);
    while (this.#reader.take(','));
  }

  /** `x IN (1, 2)`, `IN (SELECT ...)`, and `IN table`, which reads a table. */
  #rightOfIn(names: ReadonlySet<string>): void {
    const reader = this.#reader;
    const token = reader.peek();
    if (token?.kind === 'string' || token?.kind === 'number') return;
    if (reader.isSign('(') && READS.includes(reader.peekWord(1) ?? ''))
      return this.#parenthesis(names);
    if (reader.isSign('(') || reader.isSign('[')) return this.#constants();
    if (reader.isSign('(', 1)) return this.#name(names);
    this.#table(names);
  }

  /** In brackets to the right of IN: a bare name there could be that of a table. */
  #constants(): void {
    const reader = this.#reader;
    reader.nested(() => {
      const close = reader.take('[') ? ']' : ')';
      if (close === ')') reader.expect('(');
      while (!reader.take(close)) {
        if (reader.isSign('(') || reader.isSign('[')) this.#constants();
        else if (reader.isSign('(', 1)) this.#name(new Set());
        else if (!isConstant(reader.next())) throw new NotUnderstood();
      }
    });
  }

  #tableOrQuery(names: ReadonlySet<string>): void {
    const reader = this.#reader;
    if (reader.isSign('(')) {
      if (!READS.includes(reader.peekWord(1) ?? '')) throw new NotUnderstood();
      return this.#parenthesis(names);
    }
    if (reader.isSign('(', 1)) {
      if (!TABLE_FUNCTIONS.includes(reader.next().text))
        throw new Refused('sql_function_forbidden');
      return this.#parenthesis(names);
    }
    this.#table(names);
  }

  /** A table with its database, or a query that WITH has named. */
  #table(names: ReadonlySet<string>): void {
    const reader = this.#reader;
    const first = this.#identifier();
    if (!reader.take('.')) {
      if (!names.has(first)) throw new Refused('table_not_granted');
      return;
    }
    const table = this.#identifier();
    if (reader.isSign('(') || reader.isSign('.')) throw new NotUnderstood();
    this.#assertGranted(first, table);
  }

  #assertGranted(database: string, table: string): void {
    const { tables } = this.#grant;
    const granted =
      tables === 'any'
        ? !SYSTEM_DATABASES.includes(database)
        : tables.includes(`${database}.${table}`) || tables.includes(`${database}.*`);
    if (!granted) throw new Refused('table_not_granted');
  }

  #identifier(): string {
    const { kind, text } = this.#reader.next();
    if (kind !== 'word' && kind !== 'quoted') throw new NotUnderstood();
    return text;
  }

  #settings(): void {
    const reader = this.#reader;
    do {
      if (!this.#grant.settings.includes(reader.expectKind('word')))
        throw new Refused('sql_setting_forbidden');
      reader.expect('=');
      reader.take('-');
      const { kind } = reader.next();
      if (kind === 'sign') throw new NotUnderstood();
    } while (reader.take(','));
  }
}

function isSign(token: Token, sign: string): boolean {
  return token.kind === 'sign' && token.text === sign;
}

function isConstant({ kind, text }: Token): boolean {
  if (kind === 'string' || kind === 'number') return true;
  return kind === 'sign' ? ',-+'.includes(text) : /^(?:null|true|false)$/i.test(text);
}
