import type { Spec } from '#core/config';
import { FAILURES } from '#core/errors';
import { packageRoot } from '#core/package-root';
import { gatewaySpec } from '#gateway/config';
import { REASONS } from '#policies';
import { proxySpec } from '#proxy/config';
import { runnerSpec } from '#runner/config';
import { serverSpec } from '#server/config';
import { sidecarSpec } from '#sidecar/config';
import { type LibraryEntry, readLibrary, upSpec } from '../cli/index.ts';

/** The pages of docs/ that are made from the code, by path. */
export function pages(): Record<string, string> {
  return {
    'docs/errors.md': errorsPage(),
    'docs/reasons.md': reasonsPage(),
    'docs/config.md': configPage(),
    'docs/library.md': libraryPage(),
  };
}

function errorsPage(): string {
  const rows = Object.entries(FAILURES)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(
      ([code, { http, grpc, retryable, exit, help }]) =>
        `| \`${code}\` | ${http} | ${grpc} | ${retryable ? 'yes' : 'no'} | ${exit} | ${help} |`,
    );
  return `# Errors

Every failure has one of these codes: in the \`error.code\` of a JSON body (\`error.data.code\` of a JSON-RPC one), in the gRPC trailer \`outrider-error-code\`, in logs and
audit. The message beside it may be shown to anybody. *Again* says whether the same call may be sent again unchanged: it was not
carried out. *Exit* is the exit code of a part that cannot start or go on for it. This page is made from \`core/errors.ts\`.

| code | HTTP | gRPC | again | exit | what to do |
|---|---|---|---|---|---|
${rows.join('\n')}
`;
}

function reasonsPage(): string {
  const all = Object.entries(REASONS);
  const sections = [...new Set(all.map(([, { family }]) => family))].map((family) => {
    const rows = all
      .filter(([, reason]) => reason.family === family)
      .map(([reason, { status, text }]) => `| \`${reason}\` | ${status} | ${text} |`);
    return `## ${family}

| reason | HTTP | what it means |
|---|---|---|
${rows.join('\n')}
`;
  });
  return `# Reasons

Every refused request out of a sandbox has one of these reasons: in the \`error.reason\` of the JSON body (for a client of S3 the
\`Reason\` of S3's own form), in the header \`x-outrider-reason\`, in audit records, in the label of \`outrider_denials_total\`, and in
the \`expect\` of a PolicyTest. The list is closed, and some of its reasons belong to what a later version does. The status is the
usual one: the layer that answers may have a better one. This page is made from \`policies/reason.ts\`.

${sections.join('\n')}`;
}

function configPage(): string {
  const paths = { runtime: '/RUNTIME', state: '/STATE' };
  const parts: readonly (readonly [string, Spec])[] = [
    ['up', upSpec()],
    ['gateway', gatewaySpec(paths)],
    ['server', serverSpec(paths)],
    ['runner', runnerSpec(paths)],
    ['sidecar', sidecarSpec(paths)],
    ['proxy', proxySpec(paths)],
  ];
  return `# Configuration

Each part reads, in this order, the command line, the environment, its section of the file named by \`--config\`, and the default.
A key \`auth.keys\` of the gateway is \`--auth-keys\`, \`OUTRIDER_GATEWAY_AUTH_KEYS\`, and \`gateway: {auth: {keys: ...}}\` in the
file. One file may hold the sections of every part. In the file, \`\${NAME}\` and \`\${NAME:-default}\` are replaced from the
environment. Everything wrong is said at once, and an unknown key is an error.

\`<runtime>\` is \`$XDG_RUNTIME_DIR/outrider\` (root: \`/run/outrider\`; otherwise \`/tmp/outrider-<uid>\`), or \`OUTRIDER_RUNTIME_DIR\`.
\`<state>\` is \`$XDG_STATE_HOME/outrider\` (root: \`/var/lib/outrider\`; otherwise \`~/.local/state/outrider\`), or \`OUTRIDER_STATE_DIR\`.
This page is made from the \`config.ts\` of each part.

${parts.map(([name, spec]) => section(name, spec)).join('\n')}`;
}

function section(name: string, spec: Spec): string {
  const ofItems = Object.entries(spec).flatMap(([key, { keys }]) =>
    keys ? [`\nEach of \`${name}.${key}\` has:\n\n${keysTable(keys)}`] : [],
  );
  return `## ${name}\n\n${keysTable(spec)}${ofItems.join('')}`;
}

function keysTable(spec: Spec): string {
  const rows = Object.entries(spec).map(
    ([key, field]) =>
      `| \`${key}\` | ${field.kind.replaceAll('|', '\\|')} | ${shown(field)} | ${field.doc.replaceAll('|', '\\|')} |`,
  );
  return `| key | kind | default | what it is |
|---|---|---|---|
${rows.join('\n')}
`;
}

function shown(field: Spec[string]): string {
  if (!('default' in field)) return 'required';
  if (field.default === undefined) return 'none';
  const text: unknown = field.show ? field.show(field.default) : field.default;
  const plain = (typeof text === 'string' ? text : JSON.stringify(text))
    .replaceAll('/RUNTIME', '<runtime>')
    .replaceAll('/STATE', '<state>')
    .replaceAll(`${packageRoot}/`, '')
    .replaceAll('|', '\\|');
  return `\`${plain}\``;
}

function libraryPage(): string {
  const entries = [...readLibrary().values()];
  const asked = entries.map(({ name }) => name).filter((name) => name !== 'role');
  return `# The library

Policies to begin with. Each is a directory of [policies/library](../policies/library) that is sound and tested as it stands, with
examples where yours differ. \`outrider policy init\` writes them for a role of yours, checked and tested together:

\`\`\`console
$ outrider policy init analyst --with npm,github-read --set github-read.owner=acme --owner team-data
\`\`\`

\`--with\` takes any of
${asked.map((name) => `\`${name}\``).join(', ')}.
A role, datasource or credential that the directory has already is
shared; nothing that is there is replaced. The tests are part of it: change them with the policy, and ask
[\`policy test --mutate\`](policy-tools.md) what they would miss. What this version
does not do yet with a policy that loads is [said there](policies.md#load-errors-until-a-later-version). This page is made from the
library.

${entries.map(entrySection).join('\n')}`;
}

function entrySection({ name, title, about, parameters, variants }: LibraryEntry): string {
  const rows = parameters.map(
    (one) =>
      `| \`--set ${name}.${one.name}=...\` | ${one.about} | ${one.from ? `what this machine's ${one.from} uses` : one.default ? `\`${one.default}\`` : `\`${one.example}\`, to be changed`} |`,
  );
  const table =
    rows.length === 0
      ? ''
      : `| option | what it is | unless told |\n|---|---|---|\n${rows.join('\n')}\n\n`;
  const files = [...variants].map(([variant, list]) => {
    const [first] = list.filter((file) => file.name !== 'test.yaml');
    const [, ...rest] = first?.text.split('\n') ?? [];
    const place = ['../policies/library', name, variant].filter((part) => part !== '').join('/');
    const heading = variant === '' ? '' : `Over ${variant}`;
    const tests = `[${heading === '' ? 'Its tests' : `${heading}; its tests`}](${place}/test.yaml).`;
    return `${tests}\n\n\`\`\`yaml\n${rest.join('\n').trimEnd()}\n\`\`\`\n`;
  });
  return `## ${title}\n\n${name === 'role' ? '' : `\`${name}\`. `}${about}\n\n${table}${files.join('\n')}`;
}
