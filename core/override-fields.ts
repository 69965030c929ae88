import { hyphened } from './known-names.ts';

/** The method, the URL or the host of a request, by the names that frameworks and proxies have for it. */
const OVERRIDES =
  /^(?:x-http-(?:method|host-override|destinationurl)|x-method(?:-override)?$|x-(?:original|envoy|override-url|rewrite-url|host)(?:-|$))/;

/**
 * Whether a header field, its name in lower case, makes some servers take a request for another one than was decided. Servers that get
 * their fields by CGI or WSGI do not tell `_` from `-`: see `hyphened`.
 */
export function namesOtherRequest(name: string): boolean {
  return OVERRIDES.test(hyphened(name));
}
