import { addProgramTool, commonInput, SANDBOX_DESCRIPTION, type ToolDeps } from './program-tool.ts';

const DESCRIPTION = `Runs a Python 3 program in a sandbox and returns what it printed, how it ended and which files it left.

${SANDBOX_DESCRIPTION} requests, urllib and httpx use it by themselves. Datasources are reached without any credential at $OUTRIDER_URL/<type>/<name>/, for example os.environ["OUTRIDER_URL"] + "/prometheus/main/api/v1/query?query=up". A refused request is answered 403 with the reason; trying again does not help.`;

/** Adds the tool `execute_python`. */
export function addExecutePython(deps: ToolDeps): void {
  addProgramTool(deps, {
    name: 'execute_python',
    title: 'Run Python in a sandbox',
    description: DESCRIPTION,
    input: commonInput,
    program: ({ code }) => ({ language: 'python', code }),
  });
}
