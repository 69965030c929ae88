import { foldCase } from '#core/fold-case';
import { isRecord } from '#core/is-record';
import type { ArgumentRules, ArgumentValue, ToolSpec } from './document.ts';

const NO_RULES: ArgumentRules = {};

export function toolName(tool: ToolSpec): string {
  return typeof tool === 'string' ? tool : tool.name;
}

/** What a tool's arguments must be; nothing for one that stands by its name alone. */
export function argumentRules(tool: ToolSpec): ArgumentRules {
  return typeof tool === 'string' ? NO_RULES : tool.arguments;
}

/**
 * Whether the arguments of a call are what the rules ask for. One that is given in another case beside its own is in doubt, since a
 * server might read either, and so is not. `given` is parsed JSON in which no key comes twice.
 */
export function allowsArguments(rules: ArgumentRules, given: unknown): boolean {
  const wanted = Object.entries(rules);
  if (wanted.length === 0) return true;
  if (!isRecord(given)) return false;
  const names = Object.keys(given).map(foldCase);
  return wanted.every(([name, values]) => {
    if (!Object.hasOwn(given, name)) return false;
    const folded = foldCase(name);
    if (names.filter((other) => other === folded).length > 1) return false;
    return valuesOf(values).some((value) => covers(value, given[name]));
  });
}

/** Whether every call that the one allows is allowed by the other. */
export function coversTool(wide: ToolSpec, narrow: ToolSpec): boolean {
  if (toolName(wide) !== toolName(narrow)) return false;
  const inner = new Map(Object.entries(argumentRules(narrow)));
  return Object.entries(argumentRules(wide)).every(([name, values]) => {
    const those = inner.get(name);
    return (
      those !== undefined &&
      valuesOf(those).every((value) => valuesOf(values).some((other) => covers(other, value)))
    );
  });
}

function covers(value: ArgumentValue, given: unknown): boolean {
  if (typeof value === 'string' && value.endsWith('*'))
    return typeof given === 'string' && given.startsWith(value.slice(0, -1));
  return value === given;
}

export function valuesOf(
  values: ArgumentValue | readonly ArgumentValue[],
): readonly ArgumentValue[] {
  return isList(values) ? values : [values];
}

function isList(
  values: ArgumentValue | readonly ArgumentValue[],
): values is readonly ArgumentValue[] {
  return Array.isArray(values);
}
