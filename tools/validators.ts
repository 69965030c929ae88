import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import standalone from 'ajv/dist/standalone/index.js';

const KINDS = [
  'Role',
  'EgressPolicy',
  'CredentialBinding',
  'Datasource',
  'Boundary',
  'PolicyTest',
] as const;
/** What the validators call of ajv, by the names that they use. */
const RUNTIME = /const (\w+) = require\("(ajv\/dist\/runtime\/\w+)"\)\.default;/g;

/**
 * The text of policystore/gen/validators.ts: a function for each kind of policy document, made of policy.schema.json by ajv. Making
 * them when a part starts would cost each process some 25 MiB and a tenth of a second.
 */
export function validators(): string {
  const ajv = new Ajv2020({
    allErrors: true,
    strict: true,
    strictRequired: false,
    strictTypes: false,
    verbose: true,
    discriminator: true,
    code: { source: true, esm: true },
  });
  // The pattern beside it checks the form, and policies/ the calendar.
  ajv.addFormat('date', true);
  ajv.addSchema(JSON.parse(readFileSync('policy.schema.json', 'utf8')), 'policy');
  const made = standalone.default(
    ajv,
    Object.fromEntries(KINDS.map((kind) => [kind, `policy#/$defs/${kind}`])),
  );
  const imports: string[] = [];
  const code = made
    .replace('"use strict";', '')
    .replace(RUNTIME, (_, name: string, module: string) => {
      imports.push(`import ${name}_ from '${module}.js';`);
      return `const ${name} = ${name}_.default;`;
    });
  return [
    '// Made from policy.schema.json by `npm run generate`.',
    '// @ts-nocheck',
    ...imports,
    code.replaceAll(/;(?=(?:export )?(?:const|function) \w+ ?[=(])/g, ';\n'),
    '',
  ].join('\n');
}
