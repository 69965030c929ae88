/** Encoded forms of fewer bytes than this would cover innocent text. */
const ENCODED_MIN_BYTES = 6;

/** How a text can contain a secret: as it is, and in the encodings that servers echo things in. No two are the same. */
export function spellings(secret: string): string[] {
  const bytes = Buffer.from(secret, 'utf8');
  const hex = bytes.toString('hex');
  const encoded = [
    ...[0, 1, 2].flatMap((offset) => base64At(bytes, offset)),
    hex,
    hex.toUpperCase(),
    ...urlEncoded(secret),
    ...jsonStrings(secret),
    ...htmlTexts(secret),
  ];
  return [...new Set([secret, ...encoded.filter((text) => text.length >= ENCODED_MIN_BYTES)])];
}

/** The characters of a base64 text that depend on the secret alone, when it begins at a byte `offset` modulo 3. */
function base64At(bytes: Buffer, offset: number): string[] {
  const padded = Buffer.concat([Buffer.alloc(offset), bytes]);
  const from = [0, 2, 3][offset] ?? 0;
  const to = Math.floor((padded.length * 8) / 6);
  return [padded.toString('base64').slice(from, to), padded.toString('base64url').slice(from, to)];
}

function urlEncoded(secret: string): string[] {
  const strict = encodeURIComponent(secret).replace(
    /[!'()*~]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  const forms = [encodeURIComponent(secret), strict, strict.replaceAll('%20', '+')];
  return forms.flatMap((form) => [
    form,
    form.replace(/%[0-9A-F]{2}/g, (escape) => escape.toLowerCase()),
  ]);
}

/** As JavaScript writes it; with the slash escaped, as PHP does; with what HTML means escaped, as Go does. */
function jsonStrings(secret: string): string[] {
  const plain = JSON.stringify(secret).slice(1, -1);
  const escaped = plain.replace(
    /[<>&]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return [plain, plain.replaceAll('/', '\\/'), escaped];
}

const NAMED: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
};

function htmlTexts(secret: string): string[] {
  const named = secret.replace(/[&<>"]/g, (char) => NAMED[char] ?? char);
  return ['&#39;', '&#x27;', '&apos;'].map((quote) => named.replaceAll("'", quote));
}
