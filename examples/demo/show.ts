import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

const out = process.stdout;
const INDENT = '   ';

/** Text in a colour where the output is a terminal, otherwise as it is. */
export function paint(style: Style, text: string): string {
  return styleText(style, text, { stream: out });
}

let steps = 0;

/** Begins the next numbered step. */
export function step(title: string): void {
  steps += 1;
  out.write(`\n${paint('bold', `${steps}  ${title}`)}\n`);
}

export function say(text = ''): void {
  out.write(text === '' ? '\n' : `${text.replaceAll(/^/gm, INDENT)}\n`);
}

/** What a program printed, set off from what the demo says. */
export function quote(text: string): void {
  for (const line of text.trimEnd().split('\n')) say(`${paint('dim', '│')} ${line}`);
}

/** A table with its columns as wide as they need; cells after the last are left out. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  say(paint('dim', line(head)));
  for (const row of rows) {
    const shown = line(row);
    const wrong = row.some((cell) => cell === LET_THROUGH);
    say(wrong ? paint('red', shown) : shown);
  }
}

/** How an attempt that should have been refused is shown. */
export const LET_THROUGH = 'LET THROUGH';

export function good(text: string): void {
  say(`${paint('green', '✓')} ${text}`);
}

export function bad(text: string): void {
  say(`${paint('red', '✗')} ${text}`);
}
