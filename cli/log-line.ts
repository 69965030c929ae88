/** Fields that every line has, or that are shown in their own place. */
const SHOWN = new Set(['level', 'time', 'part', 'msg']);
const COLORS: Readonly<Record<string, string>> = {
  error: '\x1b[31m',
  warn: '\x1b[33m',
  debug: '\x1b[2m',
};

/** One JSON log line of a part for a person to read: `12:00:00 runner   warn   message key=value`. Other lines pass with the part's name. */
export function formatLine(part: string, line: string, color = false): string {
  const name = part.padEnd(8);
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch {
    return `${name} ${line}`;
  }
  if (typeof record !== 'object' || record === null || !('msg' in record)) return `${name} ${line}`;
  const fields = new Map<string, unknown>(Object.entries(record));
  const shown = (key: string): string => {
    const value = fields.get(key);
    return typeof value === 'string' ? value : '';
  };
  const rest = [...fields]
    .filter(([key]) => !SHOWN.has(key))
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const from = shown('part') === '' || shown('part') === part ? '' : `[${shown('part')}] `;
  const tail = rest.length > 0 ? ` ${rest.join(' ')}` : '';
  const plain = `${shown('time').slice(11, 19)} ${name} ${shown('level').padEnd(5)} ${from}${shown('msg')}${tail}`;
  const start = color ? (COLORS[shown('level')] ?? '') : '';
  return start === '' ? plain : `${start}${plain}\x1b[0m`;
}
