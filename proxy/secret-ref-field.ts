import type { Field } from '#core/config';

/** A key that names the slot of a secret. What is no slot may well be the secret, so that no message repeats it. */
export function optionalSecretRef(doc: string): Field<string | undefined> {
  const kind = 'env:NAME | file:name | store:INSTANCE:NAME';
  return {
    doc,
    kind,
    default: undefined,
    parse(raw) {
      if (raw === '') return undefined;
      if (typeof raw === 'string' && /^(?:env|file|store):./.test(raw)) return raw;
      throw new Error(`must be ${kind}: where the secret is, not the secret`);
    },
  };
}
