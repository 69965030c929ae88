import { printable } from '#core/printable';
import type { ChangeKind, PolicyChange } from '#policies/review';

/** The changes as lines for a terminal, what widens first. */
export function linesOfChanges(changes: readonly PolicyChange[]): string[] {
  const rows = changes.map((change) => ({ change, cells: [whatOf(change), whomOf(change)] }));
  const widths = [0, 1].map((column) =>
    Math.max(0, ...rows.map(({ cells }) => cells[column]?.length ?? 0)),
  );
  const lines = rows.map(({ change, cells }) => {
    const padded = cells.map((text, column) => text.padEnd(widths[column] ?? 0)).join('  ');
    return printable(
      `${signOf(change)} ${padded}  ${[exampleOf(change), valuesOf(change), byOf(change)].filter(Boolean).join('  ')}`,
    );
  });
  return [...lines, summaryOf(changes)];
}

/** The changes as a table in Markdown, what widens first. */
export function markdownOfChanges(changes: readonly PolicyChange[]): string[] {
  if (changes.length === 0) return ['**Policy:** nothing changes for anybody.'];
  return [
    `**Policy:** ${summaryOf(changes)}`,
    '',
    '| | what | for whom | for example | before → after | by |',
    '|---|---|---|---|---|---|',
    ...changes.map(
      (change) =>
        `| ${change.widening ? '⚠️' : ''} ${signOf(change)} | ${whatOf(change)} | ${cell(whomOf(change))} | ${code(exampleOf(change))} | ${cell(valuesOf(change))} | ${code(byOf(change))} |`,
    ),
  ];
}

/** `+` for what becomes possible, `-` for what no longer is. */
function signOf({ widening }: PolicyChange): '+' | '-' {
  return widening ? '+' : '-';
}

const WHAT: Readonly<Record<ChangeKind, string>> = {
  allowed: 'newly allowed',
  denied: 'newly denied',
  credential: 'another credential',
  limits: 'other limits',
  guard: 'other restrictions',
  budgets: 'another budget',
  expiry: 'another expiry',
  mode: 'another mode',
  members: 'other members',
  tools: 'other tools',
  sandbox: 'another sandbox',
  boundary: 'another ceiling',
  binding: 'another binding',
  datasource: 'another datasource',
};

function whatOf({ change }: PolicyChange): string {
  return WHAT[change];
}

function whomOf({ subject: { role, tenant }, phase }: PolicyChange): string {
  const who = role === null ? 'every role' : `role ${role}`;
  const whose = tenant === null ? '' : ` of ${tenant}`;
  return `${who}${whose}${phase === 'install' ? ', installing' : ''}`;
}

function exampleOf({ example, resolve }: PolicyChange): string {
  return resolve === undefined ? example : `${example} at ${resolve}`;
}

/** Of requests that become allowed or denied, the verdict says it already. */
function valuesOf({ change, before, after }: PolicyChange): string {
  if (change === 'allowed' || change === 'denied') return '';
  return `${before ?? 'none'} → ${after ?? 'none'}`;
}

function byOf({ policy, rule }: PolicyChange): string {
  return [policy, rule].filter((part) => part !== null).join('/');
}

function summaryOf(changes: readonly PolicyChange[]): string {
  const widening = changes.filter((change) => change.widening).length;
  const narrowing = changes.length - widening;
  if (changes.length === 0) return 'nothing changes for anybody';
  return `${count(widening, 'widens', 'widen')} what is possible, ${count(narrowing, 'narrows', 'narrow')} it`;
}

function count(number: number, one: string, many: string): string {
  return `${number} ${number === 1 ? `change ${one}` : `changes ${many}`}`;
}

/** Text of a policy must not end a cell, or be more than text. */
function cell(text: string): string {
  return printable(text).replace(/[\\|<>`*_[\]]/g, String.raw`\$&`);
}

function code(text: string): string {
  return text === ''
    ? ''
    : `\`${printable(text).replaceAll('`', "'").replaceAll('|', String.raw`\|`)}\``;
}
