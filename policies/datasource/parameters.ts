import { formParameters } from '../path.ts';
import type { Reason } from '../reason.ts';
import type { DatasourceCall } from './inspection.ts';

/** The parameters of a call, from its query and its form, which must not repeat each other. */
export class Parameters {
  readonly #values: ReadonlyMap<string, readonly string[]>;

  private constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.#values = values;
  }

  /** Of a call whose body, if any, is a form. */
  static of({
    method,
    query,
    body,
    header,
  }: Omit<DatasourceCall, 'type' | 'name' | 'path'>): Parameters | Reason {
    const text = body ?? '';
    if (method === 'POST' && text !== '') {
      const type = (header('content-type') ?? '').split(';')[0]?.trim().toLowerCase();
      if (type !== 'application/x-www-form-urlencoded') return 'encoded_body_forbidden';
      if (header('content-encoding') !== undefined) return 'encoded_body_forbidden';
    }
    const [inUrl, inBody] = [formParameters(query ?? ''), formParameters(text)];
    if (!inUrl || !inBody) return 'query_malformed';
    const values = new Map<string, string[]>();
    for (const [name, value] of [...inUrl, ...inBody]) {
      const list = values.get(name);
      if (list) list.push(value);
      else values.set(name, [value]);
    }
    // Servers take the two in different orders.
    const names = new Set(inBody.map(([name]) => name));
    return inUrl.some(([name]) => names.has(name)) ? 'param_duplicate' : new Parameters(values);
  }

  get names(): readonly string[] {
    return [...this.#values.keys()];
  }

  all(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  /** Of a parameter that may be given once alone. */
  one(name: string): string | undefined {
    return this.all(name)[0];
  }
}

/** A query with one more parameter behind it. */
export function withParameter(query: string | null, name: string, value: string): string {
  const added = `${encodeURIComponent(name)}=${encodeURIComponent(value)}`;
  return query === null || query === '' ? added : `${query}&${added}`;
}

/** A query, one that `Parameters.of` has read, without some parameters. */
export function withoutParameters(query: string | null, names: readonly string[]): string | null {
  if (query === null) return null;
  return query
    .split('&')
    .filter((part) => !names.includes(decodeURIComponent(part.split('=')[0] ?? '')))
    .join('&');
}
