import type { Row } from './battery.ts';
import type { Verdict } from './verdict.ts';

/** Columns of which escapes do not count: what they show is for comparison. */
export interface Columns {
  readonly counted: readonly string[];
  readonly compared: readonly string[];
}

export interface Count {
  readonly refused: number;
  readonly escaped: number;
  readonly withoutControl: number;
  readonly notApplicable: number;
}

export function countOf(rows: readonly Row[], { counted }: Pick<Columns, 'counted'>): Count {
  const all = rows.flatMap(({ verdicts }) => counted.flatMap((name) => verdicts.get(name) ?? []));
  const of = (result: Verdict['result']) => all.filter((one) => one.result === result).length;
  return {
    refused: of('refused'),
    escaped: of('ESCAPED'),
    withoutControl: rows.filter(({ proof }) => proof.result === 'failed').length,
    notApplicable: of('n/a'),
  };
}

/** 0 where everything was refused and every refusal is proven; 1 otherwise. Nothing refused at all is no success. */
export function exitCodeOf({ refused, escaped, withoutControl }: Count): number {
  return refused > 0 && escaped === 0 && withoutControl === 0 ? 0 : 1;
}

const DETAIL_MAX = 110;

/** One row an attack; below it why a cell is not `refused`; last the counts. */
export function tableOf(rows: readonly Row[], columns: Columns): string {
  const names = [...columns.counted, ...columns.compared];
  const width = Math.max(6, ...rows.map(({ attack }) => attack.name.length));
  const cell = (text: string, name: string) => text.padEnd(Math.max(14, name.length));
  const head = [
    '  id',
    'attack'.padEnd(width),
    'control '.padEnd(8),
    ...names.map((n) => cell(n, n)),
  ];
  const lines = rows.flatMap(({ attack, proof, verdicts }) => {
    const cells = names.map((name) => cell(verdicts.get(name)?.result ?? '', name));
    const line = [
      String(attack.id).padStart(4),
      attack.name.padEnd(width),
      proof.result.padEnd(8),
      ...cells,
    ];
    const why = names.flatMap((name) => {
      const verdict = verdicts.get(name);
      const told = verdict && verdict.result !== 'refused' && verdict.result !== 'control-failed';
      return told ? [`       ${name}: ${short(verdict.detail)}`] : [];
    });
    const control = proof.result === 'failed' ? [`       control: ${short(proof.detail)}`] : [];
    return [line.join('  ').trimEnd(), ...control, ...why];
  });
  return `${[head.join('  ').trimEnd(), ...lines].join('\n')}\n${summaryOf(rows, columns)}\n`;
}

/** The last line. */
export function summaryOf(rows: readonly Row[], columns: Columns): string {
  const { refused, escaped, withoutControl } = countOf(rows, columns);
  return `${refused} refused, ${escaped} escaped, ${withoutControl} without a working control`;
}

/** The same for programs. */
export function jsonOf(rows: readonly Row[], columns: Columns): string {
  return JSON.stringify({
    attacks: rows.map(({ attack, proof, verdicts }) => ({
      id: attack.id,
      group: attack.group,
      name: attack.name,
      control: { ...proof, how: attack.control.how },
      targets: Object.fromEntries(verdicts),
    })),
    ...countOf(rows, columns),
  });
}

function short(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ');
  return line.length > DETAIL_MAX ? `${line.slice(0, DETAIL_MAX - 1)}…` : line;
}
