import { hyphened, knownNames } from './known-names.ts';

/** Fields that name a caller or where it calls from, or carry a credential of its own, by whole words of their names. */
const WORDS = [
  'o?auth\\d?|authn|authz|authenticat\\w+|authoriz\\w+|jwt|oidc|saml|sso|dpop',
  '\\w*tokens?|passw(?:or)?d|secret|credentials?|cookie2?',
  '(?:api|access|auth|secret|private|subscription|functions)-?key',
  'users?(?!-agent)|user(?:id|name)|login|e?mail|from',
  '(?:tenant|account|org|scope)(?:s|-?id)?|roles?|groups?',
  'subject|principal|identity|actor|on-behalf-of|impersonat\\w+|sudo',
  'forwarded|via|remote-(?:addr|host)|external-address|client-?(?:ip|cert|dn|verify)|ip(?:v6)?(?=$)',
];
const NAMES_CALLER = new RegExp(`(?:^|-)(?:${WORDS.join('|')})(?=$|-)`);
/**
 * Have such a word, and are not for whoever passes a request on to remove: the first names a state of what is asked for (RFC 4918, 10.5),
 * the others make the proxy refuse a request to a datasource of that type.
 */
const OTHERS = /^(?:lock-token|x-scope-orgid|x-clickhouse-.+)$/;

/**
 * Whether a request header, its name in lower case, tells who calls: by its name alone, since none of the many that servers believe is in a
 * standard. Not those of one product whose names do not tell.
 */
export const namesCaller: (name: string) => boolean = knownNames(
  (name) => NAMES_CALLER.test(hyphened(name)) && !OTHERS.test(name),
);
