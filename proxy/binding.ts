import {
  type CredentialBinding,
  formParameters,
  grantTokenEndpoint,
  type HostTarget,
  originForm,
  type Permit,
  type PolicySet,
  REASONS,
  type Reason,
  s3ShapeRefusal,
  signedBefore,
  targetAuthority,
} from '#policies';
import { PLAIN, type Prepared, type PreparedFrom } from './credential.ts';
import type { BodyUse } from './datasources/adapter.ts';
import { valuesOf } from './headers.ts';
import type { Parts } from './parts.ts';
import { refused } from './refusal.ts';
import { awsCredentialsOf, textsOf } from './s3/credentials.ts';
import { signS3 } from './s3/sign.ts';
import { signWhole } from './s3/sign-whole.ts';
import { readUpload } from './s3/upload.ts';

type Inject = CredentialBinding['spec']['inject'];
type Sigv4 = Extract<Inject, { sigv4: unknown }>['sigv4'];

/** How an allowed request gets its credential. */
export interface BoundUpstream {
  /** Whether the credential itself is not sent, only a signature over the request. */
  readonly signs: boolean;
  /** What a body is; one that is signed is read first, too. */
  readonly body: BodyUse;
  /**
   * Refuses by the headers alone, before anything is looked up.
   * @throws {OutriderError} EGRESS_DENIED, INVALID_REQUEST
   */
  readonly assertHead: (rawHeaders: readonly string[]) => void;
  /**
   * The rest of the request, with its secret read: to be called when the addresses have been checked. A promise only where a token may
   * have to be fetched.
   * @throws {OutriderError} CREDENTIAL_UNAVAILABLE, INVALID_REQUEST
   */
  readonly prepare: (
    parts: Pick<Parts, 'secrets' | 'tokens' | 'trusts'>,
    request: PreparedFrom,
  ) => Prepared | Promise<Prepared>;
}

/** The request that a permit is for, with the credential of `binding`. */
export function boundUpstream(
  binding: CredentialBinding,
  set: PolicySet,
  permit: Permit<HostTarget>,
): BoundUpstream {
  const { inject, secretRef, stripClient = [], redact = true } = binding.spec;
  const { target } = permit;
  const strip = stripClient.map((name) => name.toLowerCase());
  const plain = (query: string | null) => ({
    ...PLAIN,
    path: originForm({ ...target, query }),
    strip,
  });
  const hidden = (...secrets: readonly string[]) => (redact ? secrets : []);

  if ('sigv4' in inject)
    return {
      signs: true,
      body: inject.sigv4.service !== 's3' || target.method === 'POST' ? 'asks' : 'goes',
      assertHead: (rawHeaders) => assertSignable(inject.sigv4, target, rawHeaders),
      prepare({ secrets }, request) {
        const credentials = awsCredentialsOf(secrets.read(secretRef));
        const signed = signedFor(inject.sigv4, target, request, credentials);
        return {
          ...PLAIN,
          ...signed,
          strip: [...strip, ...signed.strip],
          secrets: hidden(...textsOf(credentials)),
          signs: true,
        };
      },
    };
  if ('oauth2' in inject)
    return {
      ...SENT_AS_IT_IS,
      async prepare({ secrets, tokens }, { query }) {
        const secret = secrets.read(secretRef);
        const token = await tokens.token({
          client: `credential:${binding.metadata.name}`,
          auth: inject.oauth2,
          clientSecret: secret,
          grant: tokenGrantOf(set, permit),
        });
        return {
          ...plain(query),
          inject: [['authorization', `Bearer ${token}`]],
          // A client's own secret is in no answer by right either.
          secrets: hidden(token, secret),
          onRejected: () => tokens.forget(token),
        };
      },
    };
  if ('mtls' in inject)
    return {
      ...SENT_AS_IT_IS,
      // What the connection is made with: nothing of it stands in the request.
      prepare: ({ secrets, trusts }, { query }) => ({
        ...plain(query),
        trust: trusts.of({ clientCertificateRef: secretRef }, secrets),
      }),
    };
  return {
    ...SENT_AS_IT_IS,
    prepare({ secrets }, { query }) {
      const secret = secrets.read(secretRef);
      const value = inject.format.replaceAll('{secret}', () => secret);
      return { ...plain(query), inject: [[inject.header, value]], secrets: hidden(secret) };
    },
  };
}

const SENT_AS_IT_IS = { signs: false, body: 'goes', assertHead() {} } as const;

/** It is there wherever the binding is one of OAuth2: it came from this very set by the name in this very permit. */
function tokenGrantOf(set: PolicySet, permit: Permit<HostTarget>) {
  const grant = grantTokenEndpoint(set, permit);
  if (grant) return grant;
  throw refused('CREDENTIAL_UNAVAILABLE', 'the credential is not known', 'credential_unavailable');
}

/** @throws {OutriderError} EGRESS_DENIED, INVALID_REQUEST */
function assertSignable(
  { service }: Sigv4,
  target: HostTarget,
  rawHeaders: readonly string[],
): void {
  const { method, path, query } = target;
  const header = (name: string): string | undefined => valuesOf(rawHeaders, name)[0];
  if (service === 's3') {
    const reason = s3ShapeRefusal({ method, path, query, header });
    if (reason) throw unsignable(reason);
    readUpload(rawHeaders, method, Date.now());
  } else {
    const names = formParameters(query ?? '')?.map(([name]) => name);
    if (!names) throw unsignable('query_malformed');
    if (signedBefore(names)) throw unsignable('sigv4_presigned_forbidden');
  }
}

function unsignable(reason: Reason) {
  const { status, text } = REASONS[reason];
  return refused(status === 400 ? 'INVALID_REQUEST' : 'EGRESS_DENIED', text, reason);
}

function signedFor(
  { service, region }: Sigv4,
  target: HostTarget,
  { query, body, rawHeaders }: PreparedFrom,
  credentials: ReturnType<typeof awsCredentialsOf>,
) {
  const { method, path } = target;
  const shared = {
    method,
    query: formParameters(query ?? '') ?? [],
    host: targetAuthority(target),
    rawHeaders,
  };
  const nowMs = Date.now();
  if (service !== 's3') {
    const whole = { ...shared, path: path.text, body: body ?? Buffer.alloc(0) };
    return signWhole(whole, { region, service }, credentials, nowMs);
  }
  const key = path.segments.map(decodeURIComponent).join('/');
  return signS3({ ...shared, basePath: '', key, body }, region, credentials, nowMs);
}
