/** What the summary of the conformance suite says of the scenarios that count. */
export interface Score {
  readonly passed: number;
  /** Their names. */
  readonly failed: readonly string[];
}

const SCENARIO = /^([✓✗]) ([\w-]+): \d+ passed, \d+ failed/gmu;
const NOT_SCORED = /^ {2}[✓✗] ([\w-]+) \(/gmu;

/** Reads the suite's last lines: a line for each scenario, and then those again that do not count. */
export function scoreOf(said: string): Score {
  const summary = said.slice(said.lastIndexOf('=== SUMMARY ==='));
  const uncounted = new Set([...summary.matchAll(NOT_SCORED)].map(([, name]) => name));
  const counted = [...summary.matchAll(SCENARIO)].filter(([, , name]) => !uncounted.has(name));
  return {
    passed: counted.filter(([, mark]) => mark === '✓').length,
    failed: counted.flatMap(([, mark, name]) => (mark === '✗' && name !== undefined ? [name] : [])),
  };
}
