import assert from 'node:assert/strict';
import { createPublicKey, randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { importJWK, type JWTHeaderParameters, SignJWT } from 'jose';
import type { Principal } from './principal.ts';
import {
  AssertionSigner,
  AssertionVerifier,
  AUDIENCE,
  type ExecutionClaims,
  ExecutionSigner,
  ExecutionVerifier,
  generateSigningKey,
  ProofVerifier,
  publicIssuer,
  type SigningKey,
  TOKEN_LIFE_S,
} from './tokens.ts';

const alice: Principal = {
  issuer: 'https://idp.test',
  subject: 'alice',
  tenant: 'acme',
  groups: ['data', 'ops'],
  claims: { department: '42' },
};
const gateway = generateSigningKey('outrider:gateway');
const runner = generateSigningKey('outrider:runner');
const stranger = generateSigningKey('outrider:gateway');
const assertions = new AssertionVerifier([publicIssuer(gateway)]);
const proofs = new ProofVerifier([publicIssuer(gateway)]);
const executions = new ExecutionVerifier([publicIssuer(runner)]);
const now = () => Math.floor(Date.now() / 1000);

const claims = (over: Partial<ExecutionClaims> = {}): ExecutionClaims => ({
  sandboxId: 'sbx-1',
  execId: 'exec-1',
  role: 'analyst',
  policyDigest: 'd'.repeat(64),
  proof: 'the.proof.of',
  startedAt: now(),
  requestId: 'req-1',
  ...over,
});

describe('what a signer makes, the verifier of that kind accepts whole', () => {
  test('an assertion names the principal, the role and the session', async () => {
    const jwt = await new AssertionSigner(gateway).sign(alice, { session: 's1', role: 'analyst' });
    const { principal, role, session, issuedAt, expiresAt, tokenId } = await assertions.verify(jwt);
    assert.deepEqual(
      { principal, role, session },
      { principal: alice, role: 'analyst', session: 's1' },
    );
    assert.equal(expiresAt - issuedAt, TOKEN_LIFE_S);
    assert.match(tokenId, /^[0-9a-f-]{36}$/);
  });

  test('the proof in an assertion names the same principal and role to the proxy', async () => {
    const jwt = await new AssertionSigner(gateway).sign(alice, { role: 'analyst' });
    const { proof } = await assertions.verify(jwt);
    const { principal, role } = await proofs.verify(proof, now());
    assert.deepEqual({ principal, role }, { principal: alice, role: 'analyst' });
  });

  test('an execution token carries every claim and the name of its runner', async () => {
    const restricted = {
      certificateThumbprint: 'print',
      keyThumbprint: 'of a key',
      once: 'a proxy',
      phase: 'install',
    } as const;
    const { jwt, expiresAt } = await new ExecutionSigner(runner).sign(claims(restricted));
    const verified = await executions.verify(jwt);
    assert.deepEqual(
      { ...verified, startedAt: 0, issuedAt: 0, expiresAt: 0, tokenId: '' },
      {
        ...claims({ ...restricted, startedAt: 0 }),
        issuer: 'outrider:runner',
        issuedAt: 0,
        expiresAt: 0,
        tokenId: '',
      },
    );
    assert.ok(Math.abs(expiresAt.getTime() / 1000 - verified.expiresAt) <= 1);
  });

  test('no two tokens have the same id', async () => {
    const signer = new ExecutionSigner(runner);
    const [a, b] = await Promise.all([signer.sign(claims()), signer.sign(claims())]);
    assert.notEqual(
      (await executions.verify(a.jwt)).tokenId,
      (await executions.verify(b.jwt)).tokenId,
    );
  });
});

describe('no kind of token passes for another', () => {
  const verifiers = {
    assertion: (jwt: string) => assertions.verify(jwt),
    proof: (jwt: string) => proofs.verify(jwt, now()),
    // The gateway's key, too, so that nothing but the type tells a proof from an execution token.
    execution: (jwt: string) =>
      new ExecutionVerifier([publicIssuer(runner), publicIssuer(gateway)]).verify(jwt),
  };
  const made = {
    assertion: () => new AssertionSigner(gateway).sign(alice),
    proof: async () =>
      (await assertions.verify(await new AssertionSigner(gateway).sign(alice))).proof,
    execution: async () => (await new ExecutionSigner(runner).sign(claims())).jwt,
  };
  for (const kind of ['assertion', 'proof', 'execution'] as const)
    for (const as of ['assertion', 'proof', 'execution'] as const)
      test(`${kind} as ${as}: ${kind === as ? 'accepted' : 'refused'}`, async () => {
        const jwt = await made[kind]();
        if (kind === as) await assert.doesNotReject(verifiers[as](jwt));
        else await assert.rejects(verifiers[as](jwt), { code: 'UNAUTHENTICATED' });
      });
});

/** A claim that is undefined is left out. */
type Claims = Readonly<Record<string, unknown>>;

interface Forgery {
  readonly header?: Partial<JWTHeaderParameters>;
  readonly payload?: Claims;
  readonly key?: SigningKey;
}

/** An assertion made by hand; unchanged it is accepted. */
async function forge({ header = {}, payload = {}, key = gateway }: Forgery = {}): Promise<string> {
  const at = now();
  return new SignJWT({
    iss: 'outrider:gateway',
    aud: AUDIENCE.mesh,
    sub: 'alice',
    jti: randomUUID(),
    iat: at,
    exp: at + 60,
    idp: 'https://idp.test',
    tenant: 'acme',
    groups: [],
    claims: {},
    role: '',
    session: '',
    proof: 'x',
    ...payload,
  })
    .setProtectedHeader({
      alg: 'EdDSA',
      typ: 'outrider-assertion+jwt',
      kid: key.jwk.kid ?? '',
      ...header,
    })
    .sign(await importJWK(key.jwk, 'EdDSA'));
}

/** A token whose parts are written as they are, signature and all. */
function raw(header: unknown, payload: unknown, signature = ''): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part(header)}.${part(payload)}.${signature}`;
}

function payloadOf(jwt: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString('utf8'));
}

test('control: the token that the forgeries below start from is accepted', async () => {
  assert.equal((await assertions.verify(await forge())).principal.subject, 'alice');
});

describe('an assertion is refused', () => {
  const cases: readonly (readonly [string, () => Forgery])[] = [
    ['of another type', () => ({ header: { typ: 'outrider-proof+jwt' } })],
    ['of the type JWT', () => ({ header: { typ: 'JWT' } })],
    ['for another audience', () => ({ payload: { aud: AUDIENCE.proxy } })],
    ['for several audiences', () => ({ payload: { aud: [AUDIENCE.mesh, AUDIENCE.proxy] } })],
    ['of an unknown issuer', () => ({ payload: { iss: 'outrider:elsewhere' } })],
    ['without an issuer', () => ({ payload: { iss: undefined } })],
    ["by another key under the issuer's name", () => ({ key: stranger })],
    [
      "by another key under the issuer's kid",
      () => ({ key: stranger, header: { kid: gateway.jwk.kid ?? '' } }),
    ],
    ['under an unknown kid', () => ({ header: { kid: 'other' } })],
    ['that has expired', () => ({ payload: { iat: now() - 70, exp: now() - 10 } })],
    ['that lives longer than a minute', () => ({ payload: { exp: now() + 61 } })],
    ['issued in the future', () => ({ payload: { iat: now() + 30, exp: now() + 60 } })],
    ['without an end', () => ({ payload: { exp: undefined } })],
    ['without a beginning', () => ({ payload: { iat: undefined } })],
    ['without an id', () => ({ payload: { jti: undefined } })],
    ['without a subject', () => ({ payload: { sub: undefined } })],
    ['without a tenant', () => ({ payload: { tenant: undefined } })],
    ['with groups that are not a list of text', () => ({ payload: { groups: [1] } })],
    ['without a proof', () => ({ payload: { proof: undefined } })],
    ['larger than any of ours', () => ({ payload: { session: 'x'.repeat(17_000) } })],
  ];
  for (const [what, forgery] of cases)
    test(what, async () => {
      await assert.rejects(assertions.verify(await forge(forgery())), { code: 'UNAUTHENTICATED' });
    });

  test('with a critical header that is not known (RFC 7515 4.1.11)', async () => {
    const jwt = await new SignJWT(payloadOf(await forge()))
      .setProtectedHeader({
        alg: 'EdDSA',
        typ: 'outrider-assertion+jwt',
        kid: gateway.jwk.kid ?? '',
        crit: ['urn:test:new'],
        'urn:test:new': true,
      })
      .sign(await importJWK(gateway.jwk, 'EdDSA'), { crit: { 'urn:test:new': true } });
    await assert.rejects(assertions.verify(jwt), { code: 'UNAUTHENTICATED' });
  });

  test('with alg none, with and without a signature', async () => {
    const genuine = await forge();
    const header = { alg: 'none', typ: 'outrider-assertion+jwt' };
    for (const signature of ['', genuine.split('.')[2] ?? ''])
      await assert.rejects(assertions.verify(raw(header, payloadOf(genuine), signature)), {
        code: 'UNAUTHENTICATED',
      });
  });

  test('signed by HMAC with the public key as its secret', async () => {
    const spki = createPublicKey({ key: { ...gateway.jwk }, format: 'jwk' });
    const secrets = [
      spki.export({ type: 'spki', format: 'pem' }),
      spki.export({ type: 'spki', format: 'der' }),
      Buffer.from(gateway.jwk.x ?? '', 'base64url'),
    ];
    for (const secret of secrets) {
      const jwt = await new SignJWT(payloadOf(await forge()))
        .setProtectedHeader({
          alg: 'HS256',
          typ: 'outrider-assertion+jwt',
          kid: gateway.jwk.kid ?? '',
        })
        .sign(typeof secret === 'string' ? new TextEncoder().encode(secret) : secret);
      await assert.rejects(assertions.verify(jwt), { code: 'UNAUTHENTICATED' });
    }
  });

  test('with a key of its own in the header', async () => {
    const { d: _private, ...own } = stranger.jwk;
    const jwt = await forge({ key: stranger, header: { jwk: own } });
    await assert.rejects(assertions.verify(jwt), { code: 'UNAUTHENTICATED' });
  });

  test('in any spelling but the canonical one', async () => {
    const jwt = await forge();
    const [header = '', payload = '', signature = ''] = jwt.split('.');
    const last = signature.at(-1) ?? '';
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    // 64 bytes leave four bits of the last letter unused: its neighbour decodes to the same bytes.
    const twin = signature.slice(0, -1) + (alphabet[alphabet.indexOf(last) + 1] ?? '');
    assert.deepEqual(Buffer.from(twin, 'base64url'), Buffer.from(signature, 'base64url'));
    const spellings = [
      `${header}.${payload}.${twin}`,
      `${header}.${payload}.${signature}==`,
      `${header}.${payload}.${signature}\n`,
      `${header}=.${payload}.${signature}`,
      ` ${jwt}`,
      `${jwt}.`,
      `${header}.${payload}`,
      '',
      '..',
      'not a token',
    ];
    for (const text of spellings)
      await assert.rejects(assertions.verify(text), { code: 'UNAUTHENTICATED' }, text);
    await assert.doesNotReject(assertions.verify(jwt));
  });

  test('with one byte of any part changed', async () => {
    const jwt = await forge();
    for (const part of [0, 1, 2]) {
      const parts = jwt.split('.');
      const bytes = Buffer.from(parts[part] ?? '', 'base64url');
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
      parts[part] = bytes.toString('base64url');
      await assert.rejects(assertions.verify(parts.join('.')), { code: 'UNAUTHENTICATED' });
    }
  });
});

test('the refusal tells the caller nothing but whether the token has expired', async () => {
  const messageOf = async (jwt: string): Promise<string> =>
    assertions.verify(jwt).then(
      () => 'accepted',
      (error: unknown) => (error instanceof Error ? error.message : ''),
    );
  const expired = await forge({ payload: { iat: now() - 70, exp: now() - 10 } });
  assert.equal(await messageOf(expired), 'the token has expired');
  const unknown = await forge({ payload: { iss: 'outrider:secret-name' } });
  assert.equal(await messageOf(unknown), 'the token is not valid here');
});

test('clocks of two hosts may differ by five seconds, not by ten', async () => {
  const ahead = (by: number) => forge({ payload: { iat: now() + by, exp: now() + by + 60 } });
  const behind = (by: number) => forge({ payload: { iat: now() - 60 - by, exp: now() - by } });
  await assert.doesNotReject(assertions.verify(await ahead(4)));
  await assert.rejects(assertions.verify(await ahead(10)), { code: 'UNAUTHENTICATED' });
  await assert.doesNotReject(assertions.verify(await behind(3)));
  await assert.rejects(assertions.verify(await behind(10)), { code: 'UNAUTHENTICATED' });
});

test('of several keys of one issuer, the kid chooses, also where they come from two lists', async () => {
  const next = generateSigningKey('outrider:gateway');
  const one = [
    {
      issuer: 'outrider:gateway',
      keys: [...publicIssuer(gateway).keys, ...publicIssuer(next).keys],
    },
  ];
  const two = [publicIssuer(gateway), publicIssuer(next)];
  for (const trusted of [one, two]) {
    const verifier = new AssertionVerifier(trusted);
    await assert.doesNotReject(verifier.verify(await forge()));
    await assert.doesNotReject(verifier.verify(await forge({ key: next })));
    await assert.rejects(verifier.verify(await forge({ key: stranger })));
    const swapped = await forge({ key: next, header: { kid: gateway.jwk.kid ?? '' } });
    await assert.rejects(verifier.verify(swapped), { code: 'UNAUTHENTICATED' });
  }
});

test("one issuer's key does not sign for another issuer", async () => {
  const other = generateSigningKey('outrider:other');
  const verifier = new AssertionVerifier([publicIssuer(gateway), publicIssuer(other)]);
  const jwt = await forge({ key: other });
  await assert.rejects(verifier.verify(jwt), { code: 'UNAUTHENTICATED' });
  const own = await forge({ key: other, payload: { iss: 'outrider:other' } });
  await assert.doesNotReject(verifier.verify(own));
});

test('an issuer asserts only the principals that it may vouch for', async () => {
  const verifier = new AssertionVerifier([publicIssuer(gateway, ['https://idp.test'])]);
  await assert.doesNotReject(verifier.verify(await forge()));
  await assert.rejects(verifier.verify(await forge({ payload: { idp: 'outrider:local' } })), {
    code: 'UNAUTHENTICATED',
  });
});

test('a proof is judged as of the start of the exec, not as of now', async () => {
  const jwt = await forge({
    header: { typ: 'outrider-proof+jwt' },
    payload: { aud: AUDIENCE.proxy, iat: now() - 600, exp: now() - 540 },
  });
  await assert.doesNotReject(proofs.verify(jwt, now() - 590));
  await assert.rejects(proofs.verify(jwt, now()), { code: 'UNAUTHENTICATED' });
  await assert.rejects(proofs.verify(jwt, now() - 700), { code: 'UNAUTHENTICATED' });
});

describe('an execution token', () => {
  const execution = (payload: Claims) =>
    forge({
      key: runner,
      header: { typ: 'outrider-execution+jwt' },
      payload: {
        iss: 'outrider:runner',
        aud: AUDIENCE.proxy,
        sandbox: 's',
        exec: 'e',
        policy: 'p',
        started: now(),
        request: 'r',
        ...payload,
      },
    });

  test('control: made by hand it is accepted', async () => {
    assert.equal((await executions.verify(await execution({}))).certificateThumbprint, undefined);
  });

  const refused: readonly (readonly [string, Claims])[] = [
    ['bound to a key in an unknown way', { cnf: { jku: 'x' } }],
    ['bound in a way that is known and in another', { cnf: { 'x5t#S256': 'print', jku: 'x' } }],
    ['bound to a key without a thumbprint', { cnf: { jkt: '' } }],
    ['bound to a key whose thumbprint is no text', { cnf: { jkt: 1 } }],
    ['for one request, and at no proxy that is named', { once: true }],
    ['bound to an empty thumbprint', { cnf: { 'x5t#S256': '' } }],
    ['bound to nothing that can be read', { cnf: 'x' }],
    ['of a phase that is not known', { phase: 'build' }],
    ['whose phase is no text', { phase: true }],
    ['without a start', { started: undefined }],
    ['whose start is text', { started: '5' }],
    ['without its exec', { exec: undefined }],
    ['without a policy digest', { policy: undefined }],
  ];
  for (const [what, payload] of refused)
    test(`is refused ${what}`, async () => {
      await assert.rejects(executions.verify(await execution(payload)), {
        code: 'UNAUTHENTICATED',
      });
    });

  test('of a program names no phase', async () => {
    const { phase } = await executions.verify(await execution({}));
    assert.equal(phase, undefined);
  });

  test('bound to a certificate carries its thumbprint', async () => {
    const jwt = await execution({ cnf: { 'x5t#S256': 'print' } });
    assert.equal((await executions.verify(jwt)).certificateThumbprint, 'print');
  });
});

test('a published issuer holds no private key, and two keys have two kids', () => {
  const { keys } = publicIssuer(gateway);
  assert.equal(keys[0]?.d, undefined);
  assert.equal(keys[0]?.x, gateway.jwk.x);
  assert.notEqual(gateway.jwk.kid, stranger.jwk.kid);
});
