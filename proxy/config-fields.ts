import { isIP } from 'node:net';
import type { Field } from '#core/config';

const SECRET_REF =
  /^(env:[A-Za-z_]\w*|file:[\w-][\w.-]*(\/[\w-][\w.-]*)*|store:[\w-]{1,64}:\w[\w./-]{0,127})$/;

/** Where a secret is, as in policies; may be absent. What stands there by mistake may be the secret itself, so no message repeats it. */
export function optionalSecretRef(doc: string): Field<string | undefined> {
  return {
    doc,
    kind: 'secretRef (env:NAME, file:name or store:<instance>:<NAME>)',
    default: undefined,
    parse: (raw) => {
      if (raw === '') return undefined;
      if (typeof raw !== 'string' || !SECRET_REF.test(raw))
        throw new Error(
          'must say where the secret is, as env:NAME, file:name or store:<instance>:<NAME>, and not be the secret',
        );
      return raw;
    },
  };
}

/** Where the key of the secret store is; no message repeats it, either. */
export function keyPlace(doc: string, fallback: string): Field<string> {
  return {
    doc,
    kind: 'file:PATH or env:NAME',
    default: fallback,
    parse: (raw) => {
      if (typeof raw !== 'string' || !/^(file|env):./.test(raw))
        throw new Error('must say where the key is, as file:PATH or env:NAME, and not be the key');
      return raw;
    },
  };
}

/** A DNS server: an IP address, of version 6 in brackets where a port follows. */
export const dnsServer: Pick<Field<string>, 'kind' | 'parse'> = {
  kind: 'IP address with an optional port',
  parse: (raw) => {
    const text = typeof raw === 'string' ? raw : '';
    const [, v6, v4, port = '53'] = /^(?:\[([^\]]+)\]|([\d.]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
    const isGood =
      isIP(text) !== 0 || ((isIP(v6 ?? '') === 6 || isIP(v4 ?? '') === 4) && isPort(port));
    if (!isGood)
      throw new Error(
        `must be an IP address with an optional port, such as 10.0.0.53, 10.0.0.53:5353 or [fd00::53]:5353, not ${JSON.stringify(raw)}`,
      );
    return text;
  },
};

function isPort(text: string): boolean {
  const port = Number(text);
  return port >= 1 && port <= 65_535;
}
