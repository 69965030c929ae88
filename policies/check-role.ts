import type { Checked, Report } from './checked.ts';
import { isPackageName, PACKAGE_MANAGERS, packageName } from './dependency.ts';
import type { DependenciesSpec, Role } from './document.ts';
import { toolName, valuesOf } from './tool-spec.ts';

/** A star amid a text, and a tool that stands there without its arguments as well, would silently mean another thing than they seem to. */
export function checkTools({ document, report }: Checked<Role>): void {
  const { tools = [] } = document.spec;
  if (tools === 'any') return;
  for (const [index, tool] of tools.entries()) {
    if (typeof tool === 'string') continue;
    const path = ['spec', 'tools', index, 'arguments'];
    if (tools.includes(toolName(tool)))
      report(path, `"${tool.name}" stands in tools without arguments, too, and so may have any`);
    for (const [name, values] of Object.entries(tool.arguments))
      for (const value of valuesOf(values))
        if (typeof value === 'string' && value.slice(0, -1).includes('*'))
          report([...path, name], `"*" may only end a text: ${JSON.stringify(value)}`);
  }
}

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
