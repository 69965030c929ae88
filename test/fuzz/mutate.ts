import type { Random } from '../support/random.ts';

/** Bytes that some reader takes for a space, an end or a separator. */
const BYTES =
  '\r\n\0\t\x0b\x0c\x1c\x7f\x80\x85\xa0\xad\xff :;,/\\?#@%&=+-._"\'()<>[]{}|^`~019aAfFxX';

/** The same case with up to three bytes or pieces of it changed; often not at all, so that what the grammar says is seen too. */
export function mutated<Case extends { readonly text: string }>(random: Random, one: Case): Case {
  let { text } = one;
  const many = random.once(2) ? 0 : 1 + random.below(3);
  for (let i = 0; i < many; i += 1) text = changed(random, text);
  return { ...one, text };
}

function changed(random: Random, text: string): string {
  const at = random.below(text.length);
  const byte = BYTES[random.below(BYTES.length)] ?? ' ';
  const size = 1 + random.below(random.once(3) ? 40 : 3);
  switch (random.below(6)) {
    case 0:
      return `${text.slice(0, at)}${byte}${text.slice(at)}`;
    case 1:
      return `${text.slice(0, at)}${byte}${text.slice(at + 1)}`;
    case 2:
      return `${text.slice(0, at)}${text.slice(at + size)}`;
    case 3: // a piece twice
      return `${text.slice(0, at + size)}${text.slice(at)}`;
    case 4: // a piece elsewhere
      return `${text.slice(0, at)}${text.slice(random.below(text.length)).slice(0, size)}${text.slice(at)}`;
    default: {
      const flipped = text.charCodeAt(at) ^ (1 << random.below(8));
      return `${text.slice(0, at)}${String.fromCharCode(flipped)}${text.slice(at + 1)}`;
    }
  }
}
