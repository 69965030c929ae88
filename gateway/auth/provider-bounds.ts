/** The longest that anybody waits here for an identity provider, and the most that one may say. */
export const PROVIDER_BOUNDS = { timeoutMs: 30_000, maxBytes: 1_048_576 } as const;
