import type { Checked, Report } from './checked.ts';
import { isPackageName, PACKAGE_MANAGERS, packageName } from './dependency.ts';
import type { DependenciesSpec, Role } from './document.ts';

/** Names of packages that no manager of the role could know would silently allow or block nothing. */
export function checkDependencies({ document, report }: Checked<Role>): void {
  const { dependencies } = document.spec.sandbox;
  if (!dependencies) return;
  for (const list of ['allow', 'block'] as const) checkNames(dependencies, list, report);
  for (const [index, name] of (dependencies.allow ?? []).entries()) {
    if (isBlocked(dependencies, name))
      report(
        ['spec', 'sandbox', 'dependencies', 'allow', index],
        `"${name}" stands in block, too, and a block beats every allow`,
      );
  }
}

function checkNames(spec: DependenciesSpec, list: 'allow' | 'block', report: Report): void {
  for (const [index, pattern] of (spec[list] ?? []).entries()) {
    // A beginning may end where a name could not: it is completed to a name.
    const name = pattern.endsWith('*') ? `${pattern.slice(0, -1)}x` : pattern;
    if (spec.managers.some((manager) => isPackageName(manager, name))) continue;
    report(
      ['spec', 'sandbox', 'dependencies', list, index],
      `"${pattern}" is no package name of ${spec.managers.join(' or ')}: names only, without versions, and a "*" at the end alone`,
    );
  }
}

function isBlocked(spec: DependenciesSpec, name: string): boolean {
  return PACKAGE_MANAGERS.some(
    (manager) =>
      spec.managers.includes(manager) &&
      spec.block?.some((other) => packageName(manager, other) === packageName(manager, name)),
  );
}
