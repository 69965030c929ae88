import type { Program } from './program.ts';

export const TYPESCRIPT: readonly Program[] = [
  {
    fact: 'types are erased',
    code: `
interface Point { readonly x: number; y?: number }
type Pair<T> = readonly [T, T];
const add = ([a, b]: Pair<Point>): Point => ({ x: a.x + b.x, y: (a.y ?? 0) + (b.y ?? 0) });
console.log(JSON.stringify(add([{ x: 1 }, { x: 2, y: 3 }])));`,
    stdout: '{"x":3,"y":3}\n',
  },
  {
    fact: 'generics, assertions and satisfies cost nothing',
    code: `
function first<T extends { length: number }>(list: readonly T[]): T { return list[0]!; }
const table = { a: 'one', b: 'three' } as const satisfies Record<string, string>;
const keys = Object.keys(table) as (keyof typeof table)[];
console.log(first([table.b, table.a]).length, keys.join());`,
    stdout: '5 a,b\n',
  },
  {
    fact: 'classes have private fields and accessors',
    code: `
abstract class Shape { abstract area(): number; get label(): string { return \`\${this.constructor.name} \${this.area()}\`; } }
class Square extends Shape { readonly #side: number; constructor(side: number) { super(); this.#side = side; } override area(): number { return this.#side ** 2; } }
console.log(new Square(6).label);`,
    stdout: 'Square 36\n',
  },
  {
    fact: 'a union is narrowed by its tag',
    code: `
type Event = { kind: 'say'; text: string } | { kind: 'wait'; ms: number };
const tell = (event: Event): string => (event.kind === 'say' ? event.text : \`\${event.ms} ms\`);
const events: Event[] = [{ kind: 'say', text: 'hello' }, { kind: 'wait', ms: 5 }];
for (const event of events) console.log(tell(event));`,
    stdout: 'hello\n5 ms\n',
  },
  {
    fact: 'async generators are awaited at the top level',
    code: `
async function* count(to: number): AsyncGenerator<number, void, undefined> { for (let n = 1; n <= to; n++) { await null; yield n; } }
let sum: number = 0;
for await (const n of count(10)) sum += n;
console.log(sum);`,
    stdout: '55\n',
  },
  {
    fact: 'types of modules are imported as types, their values as values',
    files: {
      'shape.mts':
        'export interface Shape { sides: number }\nexport const square: Shape = { sides: 4 };',
    },
    code: `
import { type Shape, square } from './shape.mts';
const shapes: Shape[] = [square, { sides: 3 }];
console.log(shapes.map(({ sides }) => sides).join('+'));`,
    stdout: '4+3\n',
  },
  {
    fact: 'a thrown error names the line of the source',
    code: `type Unused = string;
interface AlsoUnused { a: number }
const fail = (why: string): never => { throw new Error(why); };
fail('on line 3');`,
    stderr: /Error: on line 3\n\s+at fail \(.*main\.mts:3:/,
    exit: 1,
    exception: { type: 'Error', message: 'on line 3' },
  },
  {
    fact: 'arguments, environment and standard input are typed, and the same',
    args: ['3'],
    env: { FACTOR: '14' },
    stdin: 'x',
    code: `
import { readFileSync } from 'node:fs';
const [count = '0']: string[] = process.argv.slice(2);
const factor: number = Number(process.env['FACTOR']);
console.log(Number(count) * factor, readFileSync(0, 'utf8') satisfies string);`,
    stdout: '42 x\n',
  },
];
