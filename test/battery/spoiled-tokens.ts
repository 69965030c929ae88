import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign as signBytes,
} from 'node:crypto';
import { createDpopKey, type DpopSays, dpopProof } from '#core/testing/dpop-proof';
import { malleated, respelled, withPart } from '#core/testing/spelling';
import { generateSigningKey, type SigningKey } from '#core/tokens';

/** A token that the proxy takes, taken apart, and the keys of the mesh that made it. */
export interface GoodToken {
  readonly token: string;
  readonly header: Claims;
  readonly payload: Claims;
  readonly runnerKey: SigningKey;
  readonly gatewayKey: SigningKey;
}

/** How a request says who it is from: its lines about that, and what is behind its path. */
export interface Shown {
  readonly lines: readonly string[];
  readonly query?: string;
}

/** One way to spoil a token; a text is the token itself, shown as a sidecar shows it. */
export type Spoil = (good: GoodToken) => string | Shown;

type Claims = Readonly<Record<string, unknown>>;

/** What a sidecar sends. */
export function shownAs(token: string): Shown {
  return { lines: [`Proxy-Authorization: Bearer ${token}`] };
}

/** Taken apart; the keys are those of the mesh that made it. */
export function takenApart(
  token: string,
  keys: Pick<GoodToken, 'runnerKey' | 'gatewayKey'>,
): GoodToken {
  const [header = '', payload = ''] = token.split('.');
  const read = (part: string): Claims => JSON.parse(Buffer.from(part, 'base64url').toString());
  return { token, header: read(header), payload: read(payload), ...keys };
}

const now = () => Math.floor(Date.now() / 1_000);
const attacker = generateSigningKey('outrider:runner');
const { d: _private, ...attackersPublic } = attacker.jwk;
const clientsKey = createDpopKey();
/** Where tokens are shown. */
export const TARGET_PATH = '/http/api/v1/ok';
export const TARGET_URI = `http://127.0.0.1${TARGET_PATH}`;

/** By the `variant` of a case. Whatever is signed is signed with the runner's real key, unless the signature is what is wrong. */
export const SPOILED: Readonly<Record<string, readonly (readonly [what: string, spoil: Spoil])[]>> =
  {
    none: [
      ['alg none', (good) => `${unsigned(good, 'none')}.`],
      ['alg nOnE, signed', withHeader({ alg: 'nOnE' })],
    ],
    alg_confusion: [
      ['HS256 by the public key', macWithPublicKey],
      ['RS256 by a key of its own', signedByRsa],
    ],
    kid: [
      ['a path', withHeader({ kid: '../../dev/null' })],
      ['SQL', withHeader({ kid: "x' UNION SELECT 'key" })],
    ],
    jku: [['a set of keys elsewhere', withHeader({ jku: 'https://evil.test/jwks' })]],
    x5u: [['a certificate elsewhere', withHeader({ x5u: 'https://evil.test/x5u' })]],
    jwk: [
      [
        'a key of its own, which signed it',
        ({ header, payload }) => signed(attacker, { ...header, jwk: attackersPublic }, payload),
      ],
    ],
    exp: [['a second past the tolerance', withClaims(() => ({ iat: now() - 66, exp: now() - 6 }))]],
    exp_missing: [['no exp', withClaims(() => ({ exp: undefined }))]],
    nbf: [['not valid yet', withClaims(() => ({ nbf: now() + 30 }))]],
    iat: [['issued later', withClaims(() => ({ iat: now() + 30, exp: now() + 90 }))]],
    aud: [
      ['no aud', withClaims(() => ({ aud: undefined }))],
      ["the runner's", withClaims(() => ({ aud: 'outrider:mesh' }))],
    ],
    aud_multi: [
      ['ours and another', withClaims(() => ({ aud: ['outrider:proxy', 'outrider:mesh'] }))],
    ],
    iss: [
      ['another', withClaims(() => ({ iss: 'outrider:other' }))],
      ['the gateway, whose keys sign no such token', signedByGateway],
    ],
    typ: [
      ['JWT', withHeader({ typ: 'JWT' })],
      ['that of a proof', withHeader({ typ: 'outrider-proof+jwt' })],
    ],
    crit: [['unknown', withHeader({ crit: ['x'], x: true })]],
    b64: [['false', withHeader({ b64: false, crit: ['b64'] })]],
    dup_json: [
      [
        'a claim twice',
        ({ runnerKey, header, payload }) =>
          signed(runnerKey, header, `${JSON.stringify(payload).slice(0, -1)},"role":"admin"}`),
      ],
    ],
    too_large: [['16 KiB', withClaims(() => ({ more: 'x'.repeat(12_000) }))]],
    encoding: [
      ['another spelling', ({ token }) => withPart(token, 1, respelled)],
      ['padding', ({ token }) => `${token}=`],
      ['white space', ({ token }) => withPart(token, 1, (part) => ` ${part}`)],
    ],
    sig_zero: [
      ['ES256', (good) => `${unsigned(good, 'ES256')}.${zeros()}`],
      ['EdDSA', (good) => `${unsigned(good, 'EdDSA')}.${zeros()}`],
    ],
    sig_malleable: [
      ['the order of the group added to S', ({ token }) => withPart(token, 2, malleated)],
    ],
    cnf_mismatch: [
      [
        'bound to a connection that this is not',
        withClaims(() => ({ cnf: { 'x5t#S256': 'A'.repeat(43) } })),
      ],
    ],
    dpop_mismatch: [
      ['a proof for another target', withProof({ htu: 'http://127.0.0.1/http/api/v1/other' })],
      ['a proof for another method', withProof({ htm: 'POST' })],
      ['a proof for another token', withProof({ token: 'a.b.c' })],
      ['a proof by another key', withProof({}, createDpopKey())],
      ['no proof', (good) => ({ lines: withProof({})(good).lines.slice(0, 1) })],
      ['a bearer', (good) => shownAs(boundToken(good))],
    ],
    token_location: [
      ['in the query', ({ token }) => ({ lines: [], query: `?access_token=${token}` })],
    ],
    header_duplicate: [
      ['both valid', ({ token }) => twice(token, token)],
      ['the first one valid', ({ token }) => twice(token, 'a.b.c')],
      ['the second one valid', ({ token }) => twice('a.b.c', token)],
    ],
    cache_key: [
      [
        'another role below a signature that is remembered',
        ({ token, payload }) => withPart(token, 1, () => encoded({ ...payload, role: 'admin' })),
      ],
    ],
    kid_unknown: [
      ['a kid that is no more', withHeader({ kid: 'rotated' })],
      ['another key below a known kid', ({ header, payload }) => signed(attacker, header, payload)],
    ],
  };

/** What a variant's cases are made of, where that is more than a good token: it is let through. */
export const UNSPOILED: Readonly<Record<string, (good: GoodToken) => Shown>> = {
  dpop_mismatch: withProof({}),
};

function withHeader(more: Claims): Spoil {
  return ({ runnerKey, header, payload }) => signed(runnerKey, { ...header, ...more }, payload);
}

function withClaims(more: () => Claims): Spoil {
  return ({ runnerKey, header, payload }) => signed(runnerKey, header, { ...payload, ...more() });
}

function signedByGateway({ gatewayKey, header, payload }: GoodToken): string {
  const { kid } = gatewayKey.jwk;
  return signed(gatewayKey, { ...header, kid }, { ...payload, iss: gatewayKey.issuer });
}

function macWithPublicKey(good: GoodToken): string {
  const input = unsigned(good, 'HS256');
  const key = createPublicKey({ key: { ...good.runnerKey.jwk }, format: 'jwk' });
  const secret = key.export({ type: 'spki', format: 'pem' });
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
}

function signedByRsa(good: GoodToken): string {
  const input = unsigned(good, 'RS256');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return `${input}.${signBytes('sha256', Buffer.from(input), privateKey).toString('base64url')}`;
}

function boundToken({ runnerKey, header, payload }: GoodToken): string {
  return signed(runnerKey, header, { ...payload, cnf: { jkt: clientsKey.thumbprint } });
}

/** The token, bound to a client's key, with a proof of it that is right but for what is given. */
function withProof(says: Partial<DpopSays>, key = clientsKey): (good: GoodToken) => Shown {
  return (good) => {
    const token = boundToken(good);
    const proof = dpopProof(key, { htm: 'GET', htu: TARGET_URI, token, ...says });
    return { lines: [`Proxy-Authorization: DPoP ${token}`, `DPoP: ${proof}`] };
  };
}

function twice(first: string, second: string): Shown {
  return { lines: [...shownAs(first).lines, ...shownAs(second).lines] };
}

function unsigned({ header, payload }: GoodToken, alg: string): string {
  return `${encoded({ ...header, alg })}.${encoded(payload)}`;
}

/** A compact JWS of whatever it is given; text is taken for JSON as it stands. */
export function signed({ jwk }: SigningKey, header: Claims, payload: Claims | string): string {
  const input = `${encoded(header)}.${encoded(payload)}`;
  const key = createPrivateKey({ key: jwk, format: 'jwk' });
  return `${input}.${signBytes(null, Buffer.from(input), key).toString('base64url')}`;
}

function encoded(part: Claims | string): string {
  return Buffer.from(typeof part === 'string' ? part : JSON.stringify(part)).toString('base64url');
}

function zeros(): string {
  return Buffer.alloc(64).toString('base64url');
}
