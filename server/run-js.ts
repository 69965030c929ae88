import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { OutriderError } from '#core/errors';
import type { RunResponse } from '#proto';
import { addProgramTool, commonInput, SANDBOX_DESCRIPTION, type ToolDeps } from './program-tool.ts';

const DESCRIPTION = `Runs JavaScript or TypeScript (Node.js) in a sandbox. The code is the body of an async function with the variable args: what it returns comes back as value (JSON), besides what it printed, how it ended and which files it left. Code with import or export statements runs as an ES module instead, args is global there, and value is its default export.

${SANDBOX_DESCRIPTION} fetch uses it by itself.`;

/**
 * Runs in the sandbox, around the code of the call. Its arguments are one JSON text: a program's own text could not end it early or
 * add to it. The value leaves by a file whose name nobody could know before, so that printing cannot pass for it.
 */
const WRAPPER = `import { writeFileSync } from 'node:fs';
import { createRequire, stripTypeScriptTypes } from 'node:module';
import { pathToFileURL } from 'node:url';
import { constants, Script } from 'node:vm';

const { code, args, typed, valueFile } = JSON.parse(process.argv[2]);
process.argv.length = 2;
const value = /^\\s*(import|export)\\b/m.test(code) ? await asModule() : await asFunction();
if (value !== undefined) writeFileSync(valueFile, JSON.stringify(value) ?? 'null');

function asFunction() {
  const text = \`(async (args, require) => {\${code}\\n})\`;
  const script = new Script(typed ? stripTypeScriptTypes(text) : text, {
    filename: typed ? 'main.ts' : 'main.js',
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
  return script.runInThisContext()(args, createRequire('/workspace/main.js'));
}

async function asModule() {
  globalThis.args = args;
  const file = typed ? '/workspace/.main.mts' : '/workspace/.main.mjs';
  writeFileSync(file, code);
  return (await import(pathToFileURL(file))).default;
}
`;
const VALUE_PREFIX = '.value-';

/** Adds the tool `run_js`. */
export function addRunJs(deps: ToolDeps): void {
  addProgramTool(deps, {
    name: 'run_js',
    title: 'Run JavaScript or TypeScript in a sandbox',
    description: DESCRIPTION,
    input: commonInput.extend({
      args: z.json().optional().describe('Any JSON value: the variable args of the code.'),
      language: z.enum(['javascript', 'typescript']).optional().describe('Default: javascript.'),
    }),
    output: { value: z.json().optional().describe('What the code returned.') },
    program: ({ code, args = null, language }) => ({
      language: 'javascript',
      code: WRAPPER,
      args: [
        JSON.stringify({
          code,
          args,
          typed: language === 'typescript',
          valueFile: `/output/${VALUE_PREFIX}${randomUUID()}`,
        }),
      ],
      profile: 'node',
    }),
    answer: takeValue,
  });
}

/** The value out of its file, and the answer without that file. @throws {OutriderError} BODY_TOO_LARGE */
function takeValue(response: RunResponse): { response: RunResponse; extra: object } {
  const isValue = ({ path }: { path: string }) => path.startsWith(VALUE_PREFIX);
  const artefacts = response.end?.artefacts ?? [];
  const file = artefacts.find(isValue);
  if (!file || !response.end) return { response, extra: {} };
  if (BigInt(file.content.length) !== file.size)
    throw new OutriderError(
      'BODY_TOO_LARGE',
      'the value is too large to be returned: write it to a file in /output',
    );
  return {
    response: {
      ...response,
      end: { ...response.end, artefacts: artefacts.filter((artefact) => !isValue(artefact)) },
    },
    extra: { value: parseValue(file.content) },
  };
}

/** The program could have written there itself: what is no JSON is shown as the text that it is. */
function parseValue(content: Buffer): unknown {
  const text = content.toString('utf8');
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
