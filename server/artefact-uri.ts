/** What comes before exec and path. */
export const ARTEFACTS_URI = 'outrider://artefacts';

/** What a file that a program left in /output is called in MCP, for as long as its runner keeps it. */
export function artefactUri(execId: string, path: string): string {
  return `${ARTEFACTS_URI}/${[execId, ...path.split('/')].map(encodeURIComponent).join('/')}`;
}
