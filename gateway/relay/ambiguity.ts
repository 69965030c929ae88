import { foldCase } from '#core/fold-case';

/**
 * Why two parsers could take a JSON-RPC message for different ones; undefined where they cannot. `text` is valid JSON, a message or a
 * batch, and `messages` what it was parsed to. JSON leaves open which of two equal keys counts (RFC 8259 section 4), and some parsers match
 * keys whatever their case: so a message's keys, and those of its `params`, must differ in more than case, and `method` has one spelling.
 * Keys of `arguments` may differ in case alone, but none comes twice.
 */
export function ambiguity(
  text: string,
  messages: readonly unknown[],
  batch: boolean,
): string | undefined {
  const parsed = { keys: 0, params: 0, arguments: 0 };
  for (const message of messages) {
    const keys = keysOf(message);
    if (sameFolded(keys)) return TWICE.keys;
    if (keys.some((key) => key !== 'method' && folded(key) === 'METHOD'))
      return 'method has another spelling';
    const params = keys.find((key) => folded(key) === 'PARAMS');
    const given = params === undefined ? undefined : Object(message)[params];
    const inParams = keysOf(given);
    if (sameFolded(inParams)) return TWICE.params;
    const named = inParams.find((key) => folded(key) === 'ARGUMENTS');
    parsed.keys += keys.length;
    parsed.params += inParams.length;
    if (named !== undefined) parsed.arguments += keysOf(Object(given)[named]).length;
  }
  // What is there twice has been parsed once: then this is not the text, which else is what most clients write.
  const isShort = text.length <= WRITTEN_MAX_CHARACTERS;
  if (isShort && JSON.stringify(batch ? messages : messages[0]) === text) return undefined;
  const written = countKeys(text, batch ? 2 : 1);
  if (written.keys !== parsed.keys) return TWICE.keys;
  if (written.params !== parsed.params) return TWICE.params;
  return written.arguments === parsed.arguments ? undefined : TWICE.arguments;
}

/** To write a longer message again would take as long as it is worth, and one that is nested some thousand times cannot be written at all. */
const WRITTEN_MAX_CHARACTERS = 4_096;

const TWICE = {
  keys: 'it has a key twice',
  params: 'its params have a key twice',
  arguments: 'its arguments have a key twice',
} as const;

/** Keys that nearly every message has, spelt as they nearly always are; no two of them differ in case alone. */
const USUAL = new Map(
  ['jsonrpc', 'id', 'method', 'params', 'name', 'arguments', '_meta', 'uri', 'cursor'].map(
    (key) => [key, key.toUpperCase()],
  ),
);

function folded(key: string): string {
  return USUAL.get(key) ?? foldCase(key);
}

/** Whether two of different keys differ in case alone. */
function sameFolded(keys: readonly string[]): boolean {
  if (keys.every((key) => USUAL.has(key))) return false;
  return new Set(keys.map(folded)).size !== keys.length;
}

/** Of an object; other values have none that count. */
function keysOf(value: unknown): readonly string[] {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.keys(value)
    : [];
}

const [QUOTE, COLON, BACKSLASH] = [0x22, 0x3a, 0x5c];
const [OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY] = [0x7b, 0x7d, 0x5b, 0x5d];

interface Counts {
  keys: number;
  params: number;
  arguments: number;
}

/** Keys as they are written in valid JSON: those at the depth `top`, those of the values of `params` there, and those of `arguments` in these. */
function countKeys(text: string, top: number): Counts {
  const count = { keys: 0, params: 0, arguments: 0 };
  let depth = 0;
  let key = 0;
  let inParams = false;
  let inArguments = false;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      // Strings are stepped over whole, so a bracket inside one is none.
      case QUOTE:
        key = at;
        at = endOfString(text, at);
        break;
      case COLON:
        if (depth === top) {
          count.keys += 1;
          inParams = isKey(text.slice(key, at), 'params');
          inArguments = false;
        } else if (inParams && depth === top + 1) {
          count.params += 1;
          inArguments = isKey(text.slice(key, at), 'arguments');
        } else if (inArguments && depth === top + 2) count.arguments += 1;
        break;
      case OPEN_OBJECT:
      case OPEN_ARRAY:
        depth += 1;
        break;
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        depth -= 1;
        if (depth < top) {
          inParams = false;
          inArguments = false;
        }
        break;
    }
  }
  return count;
}

/** `token`: a key as it is written, and the space behind it. */
function isKey(token: string, name: 'params' | 'arguments'): boolean {
  return token === `"${name}"` || folded(String(JSON.parse(token))) === folded(name);
}

/** Where the string ends that begins at `start`: at the first quote before which the backslashes are even in number. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); ; end = text.indexOf('"', end + 1)) {
    let escape = end - 1;
    while (text.charCodeAt(escape) === BACKSLASH) escape -= 1;
    if ((end - escape) % 2 === 1) return end;
  }
}
