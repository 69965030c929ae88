/** Which parameter `Mcp-Name` repeats, by method (MCP 2026-07-28, standard request headers: SEP-2243, and SEP-2663 for tasks). */
export const NAMED_BY: ReadonlyMap<string, string> = new Map([
  ['tools/call', 'name'],
  ['prompts/get', 'name'],
  ['resources/read', 'uri'],
  ['tasks/get', 'taskId'],
  ['tasks/update', 'taskId'],
  ['tasks/cancel', 'taskId'],
]);

/** Text as a header can carry it: visible ASCII and spaces inside it as they are, anything else as `=?base64?...?=`. */
export function headerOf(text: string): string {
  const plain =
    /^[\x20-\x7e]+$/.test(text) && text === text.trim() && !/^=\?base64\?.*\?=$/.test(text);
  return plain ? text : encoded(text);
}

/** Whether a header stands for `value`: as it is where that is ASCII, or encoded, which is spelt in one way only. */
export function standsFor(header: string, value: unknown): boolean {
  if (typeof value !== 'string') return false;
  return /^=\?base64\?.*\?=$/.test(header)
    ? header === encoded(value)
    : header === value && /^[\x20-\x7e]*$/.test(header);
}

function encoded(text: string): string {
  return `=?base64?${Buffer.from(text, 'utf8').toString('base64')}?=`;
}
