/** Who calls: as an issuer vouched for it. Two principals are the same only if issuer, tenant and subject are. */
export interface Principal {
  readonly issuer: string;
  readonly subject: string;
  /** Empty where the issuer names none. */
  readonly tenant: string;
  readonly groups: readonly string[];
  /** Further claims that a Role may ask for; text only. */
  readonly claims: Readonly<Record<string, string>>;
}

/** The one principal of a machine in embedded mode: whoever holds the local token or may open the runner's socket. */
export const LOCAL_PRINCIPAL: Principal = {
  issuer: 'outrider:local',
  subject: 'local',
  tenant: 'local',
  groups: [],
  claims: {},
};

/** A key that is the same for the same principal in the same tenant only. */
export function principalKey({ issuer, tenant, subject }: Principal): string {
  return JSON.stringify([issuer, tenant, subject]);
}
