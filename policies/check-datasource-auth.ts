import type { Report } from './checked.ts';
import type { DatasourceSpec, DatasourceType } from './document.ts';
import { parseEndpoint } from './endpoint.ts';
import { FRAMING, isFramingHeader } from './framing-header.ts';
import { isLocalName } from './host-pattern.ts';
import { classifyIp } from './ip-class.ts';

/** Ways of authenticating, and fields, that only some types know; what is not here, all do. */
const AUTH_OF: Readonly<
  Partial<Record<DatasourceSpec['auth']['type'], readonly DatasourceType[]>>
> = { query: ['http'], sigv4: ['s3'] };
const FIELD_OF = {
  tenant: ['prometheus', 'loki'],
  publicUrlPrefix: ['s3'],
} as const satisfies Partial<Record<keyof DatasourceSpec, readonly DatasourceType[]>>;

/** What goes into the requests to a datasource: each way of it fits the type, and none in clear over a network. */
export function checkDatasourceAuth(spec: DatasourceSpec, report: Report): void {
  const { type, auth, tls } = spec;
  const types = AUTH_OF[auth.type];
  if (types && !types.includes(type))
    report(['spec', 'auth', 'type'], `"${auth.type}" is for ${types.join(' and ')}`);
  if (type === 's3' && auth.type !== 'sigv4' && auth.type !== 'none')
    report(['spec', 'auth', 'type'], 'S3 takes `sigv4`, or `none` for what is public');
  if (auth.type === 'header' && isFramingHeader(auth.name))
    report(['spec', 'auth', 'name'], FRAMING);
  if (auth.type === 'oauth2') checkTokenUrl(auth.tokenUrl, spec, report);
  for (const [field, ofTypes] of Object.entries(FIELD_OF)) {
    const fits = ofTypes.some((one) => one === type);
    if (Object.hasOwn(spec, field) && !fits)
      report(['spec', field], `this is for ${ofTypes.join(' and ')}`);
  }
  if (tls && spec.endpoint.startsWith('http:'))
    report(['spec', 'tls'], 'the endpoint is http: write https, or take this out');
}

function checkTokenUrl(text: string, spec: DatasourceSpec, report: Report): void {
  const url = parseEndpoint(text);
  if (typeof url === 'string') return report(['spec', 'auth', 'tokenUrl'], url);
  const { host, scheme } = url;
  const local = host.ip ? classifyIp(host.ip) === 'loopback' : isLocalName(host);
  if (local && spec.allowLoopback !== true)
    report(['spec', 'auth', 'tokenUrl'], 'this is loopback: say `allowLoopback: true`');
  else if (scheme === 'http' && !local)
    report(['spec', 'auth', 'tokenUrl'], 'a client secret goes over https alone');
}
