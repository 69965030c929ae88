import { loadFiles } from '#policystore';
import {
  EXIT,
  isUnsound,
  onlyDirectory,
  type PolicyCommand,
  parseCommand,
  reportError,
  writeJson,
} from './command.ts';
import { readPolicy } from './source.ts';

/** `outrider policy check`: whether the mesh would load this. */
export const command: PolicyCommand = {
  usage: `DIR [--json]

Reads every policy document of DIR as the mesh does, checks each and all together, and runs the PolicyTests.
What is wrong is said as file:line:column, everything at once.

DIR is a directory, or REV:PATH for one in a Git revision.
Exit: 0 the policy is sound; 1 it is not; 2 it cannot be read, or wrong usage.
`,
  async run(argv, io) {
    const { values, positionals } = parseCommand(argv, {
      json: { type: 'boolean', default: false },
    });
    const files = await readPolicy(onlyDirectory(positionals));
    try {
      const { digest, documents } = loadFiles(files);
      const counts = {
        documents: Object.values(documents).reduce((sum, list) => sum + list.length, 0),
        files: files.length,
        testCases: documents.tests.reduce((sum, { spec }) => sum + spec.cases.length, 0),
      };
      if (values.json) writeJson(io.out, { ok: true, digest, ...counts });
      else
        io.out.write(
          `ok: ${counts.documents} documents in ${counts.files} files, ${counts.testCases} test cases passed\ndigest ${digest}\n`,
        );
      return EXIT.fine;
    } catch (error) {
      if (!isUnsound(error)) throw error;
      reportError(error, values.json, io);
      return EXIT.found;
    }
  },
};
