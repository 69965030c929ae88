/**
 * Why two parsers could take a JSON-RPC message for different ones; undefined where they cannot. `text` is valid JSON: a message
 * or a batch. JSON leaves open which of two equal keys counts (RFC 8259 section 4), and some parsers match keys whatever their
 * case: so a message's keys, and those of its `params`, must differ in more than case, and `method` has one spelling.
 */
export function ambiguity(text: string): string | undefined {
  const batch = text.trimStart().startsWith('[');
  const top = batch ? 2 : 1;
  let depth = 0;
  let message = new Set<string>();
  let params = new Set<string>();
  let key = '';
  // Strings are stepped over whole, so a bracket inside one is none.
  STRUCTURE.lastIndex = 0;
  for (let found = STRUCTURE.exec(text); found; found = STRUCTURE.exec(text)) {
    const [token] = found;
    if (token === '{' || token === '[') {
      depth += 1;
      if (depth === top) message = new Set();
      if (depth === top + 1) params = new Set();
    } else if (token === '}' || token === ']') depth -= 1;
    else if (depth === top && isKey(text)) {
      key = folded(token);
      if (message.has(key)) return 'it has a key twice';
      if (key === 'METHOD' && JSON.parse(token) !== 'method') return 'method has another spelling';
      message.add(key);
    } else if (depth === top + 1 && key === 'PARAMS' && isKey(text)) {
      const name = folded(token);
      if (params.has(name)) return 'its params have a key twice';
      params.add(name);
    }
  }
  return undefined;
}

const STRUCTURE = /[{}[\]]|"(?:[^"\\]|\\.)*"/gs;
const COLON = /\s*:/y;

/** Whether a colon follows where `STRUCTURE` stopped. */
function isKey(text: string): boolean {
  COLON.lastIndex = STRUCTURE.lastIndex;
  return COLON.test(text);
}

/** Keys that nearly every message has, spelt as they nearly always are. */
const USUAL = new Map(
  ['jsonrpc', 'id', 'method', 'params', 'name', 'arguments', '_meta', 'uri', 'cursor'].map(
    (key) => [`"${key}"`, key.toUpperCase()],
  ),
);

/** Without case, also that of letters that other letters fold to: the Kelvin sign is a k, the long s an s. */
function folded(token: string): string {
  return USUAL.get(token) ?? String(JSON.parse(token)).toLowerCase().toUpperCase();
}
