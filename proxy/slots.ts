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
  const credentials = [...set.credentials].map(
    ([name, { spec }]) => [`CredentialBinding ${name}`, spec.secretRef] as const,
  );
  return [...datasources, ...credentials].flatMap(([document, secretRef]) =>
    secretRef === undefined || isReadable(secrets, secretRef) ? [] : [`${document} (${secretRef})`],
  );
}

function isReadable(secrets: Secrets, secretRef: string): boolean {
  try {
    secrets.read(secretRef);
    return true;
  } catch {
    return false;
  }
}
