/** What the command runs on, parts and packages (undici says it of itself). The SDK runs on what `engines` says. */
const NEEDED = [22, 19] as const;

/** What is wrong with a version of Node, as in `process.version`; undefined where the command runs on it. */
export function nodeProblem(version: string): string | undefined {
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number);
  if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) return undefined;
  return `this is Node ${version}, and the command needs ${NEEDED.join('.')} or newer; its packages bring one, as node_modules/.bin/node`;
}
