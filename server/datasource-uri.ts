/** The list of them; what comes before type and name. */
export const DATASOURCES_URI = 'outrider://datasources';

/** What a datasource is called in MCP. */
export function datasourceUri({
  type,
  name,
}: {
  readonly type: string;
  readonly name: string;
}): string {
  return `${DATASOURCES_URI}/${encodeURIComponent(type)}/${encodeURIComponent(name)}`;
}
