import { addProgramTool, commonInput, SANDBOX_DESCRIPTION, type ToolDeps } from './program-tool.ts';

const DESCRIPTION = `Runs a POSIX shell script in a sandbox and returns what it printed, how it ended and which files it left.

${SANDBOX_DESCRIPTION} curl uses it by itself.`;

/** Adds the tool `run_shell`. */
export function addRunShell(deps: ToolDeps): void {
  addProgramTool(deps, {
    name: 'run_shell',
    title: 'Run a shell script in a sandbox',
    description: DESCRIPTION,
    input: commonInput,
    program: ({ code }) => ({ language: 'shell', code, profile: 'shell' }),
  });
}
