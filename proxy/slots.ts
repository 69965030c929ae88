import type { PolicySet } from '#policies';
import type { Secrets } from './secrets.ts';

/**
 * The documents whose secret cannot be read now, by name, for whoever operates the proxy. The slot's name is not
 * secret; its value does not leave this function.
 */
export function unresolvedSlots(set: PolicySet, secrets: Secrets): string[] {
  const datasources = [...set.datasources].map(
    ([key, { spec }]) => [`Datasource ${key}`, spec.secretRef] as const,
  );
  const bound = [...set.credentials].map(
    ([name, { spec }]) =>
      [`CredentialBinding ${name}`, spec.secretRef, 'mtls' in spec.inject] as const,
  );
  const credentials = bound.flatMap(([name, ref, isPem]) => (isPem ? [] : [[name, ref] as const]));
  const certificates = [
    ...[...set.datasources].map(
      ([key, { spec }]) => [`Datasource ${key}`, spec.tls?.clientCertificateRef] as const,
    ),
    ...bound.flatMap(([name, ref, isPem]) => (isPem ? [[name, ref] as const] : [])),
  ];
  const unreadable = (
    read: (secretRef: string) => string,
    slots: readonly (readonly [string, string | undefined])[],
  ): string[] =>
    slots.flatMap(([document, secretRef]) =>
      secretRef === undefined || isReadable(read, secretRef) ? [] : [`${document} (${secretRef})`],
    );
  return [
    ...unreadable((ref) => secrets.read(ref), [...datasources, ...credentials]),
    ...unreadable((ref) => secrets.readPem(ref), certificates),
  ];
}

function isReadable(read: (secretRef: string) => string, secretRef: string): boolean {
  try {
    read(secretRef);
    return true;
  } catch {
    return false;
  }
}
