import type { DependenciesSpec, PackageManager } from './document.ts';

export const PACKAGE_MANAGERS = ['pip', 'npm'] as const satisfies readonly PackageManager[];

/** https://packaging.python.org/en/latest/specifications/name-normalization/ */
const PIP_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$/;
/** https://docs.npmjs.com/cli/configuring-npm/package-json#name, with the capitals of old packages. */
const NPM_NAME = /^(?:@[A-Za-z0-9~][\w.~-]*\/)?[A-Za-z0-9~][\w.~-]*$/;
const NAME_MAX = 214;

/** Whether a manager could know a package by this name. */
export function isPackageName(manager: PackageManager, name: string): boolean {
  return name.length <= NAME_MAX && (manager === 'pip' ? PIP_NAME : NPM_NAME).test(name);
}

/** The one spelling of a name: PEP 503 for pip; lower case for npm, where a scope belongs to the name. */
export function packageName(manager: PackageManager, name: string): string {
  return manager === 'pip' ? name.replace(/[-_.]+/g, '-').toLowerCase() : name.toLowerCase();
}

/**
 * Why a role may not have a package; undefined where it may. Pure and total. A block beats every allow and is held against
 * whatever is installed; what is `asked` for must be allowed, too, and what that brings along need not.
 */
export function dependencyRefusal(
  spec: DependenciesSpec | undefined,
  manager: PackageManager,
  name: string,
  asked: boolean,
): string | undefined {
  if (!spec) return 'the role may install nothing';
  if (!spec.managers.includes(manager)) return `the role may install nothing with ${manager}`;
  const names = (pattern: string) => namesPackage(pattern, manager, name);
  if (spec.block?.some(names)) return `the role must not have the package ${name}`;
  if (asked && spec.allow && !spec.allow.some(names))
    return `the package ${name} is not one that the role may ask for`;
  return undefined;
}

/** Whether `numpy`, or `numpy-*` with all that begins so, names the package. */
function namesPackage(pattern: string, manager: PackageManager, name: string): boolean {
  const known = packageName(manager, name);
  return pattern.endsWith('*')
    ? known.startsWith(packageName(manager, pattern.slice(0, -1)))
    : known === packageName(manager, pattern);
}
