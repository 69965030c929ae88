import type { Method } from './document.ts';

/** A set of methods as bits, so that asking for one costs nothing. */
export type MethodSet = number;

/** Every method of the language. */
export const ANY_METHOD: MethodSet = 0x7f;

const BIT: Readonly<Record<Method, MethodSet>> = {
  GET: 1,
  HEAD: 2,
  POST: 4,
  PUT: 8,
  PATCH: 16,
  DELETE: 32,
  OPTIONS: 64,
};

export function methodSet(methods: 'any' | readonly Method[]): MethodSet {
  return methods === 'any' ? ANY_METHOD : methods.reduce((set, method) => set | BIT[method], 0);
}

export function hasMethod(set: MethodSet, method: Method): boolean {
  return (set & BIT[method]) !== 0;
}
