/** Where a session is: a server, and that server's id of it. */
export interface SessionPlace {
  readonly backend: string;
  readonly upstreamId: string;
}

/** Where gateways tell each other of moved sessions. A key is written once and never changed. */
export interface MoveStore {
  /** Where the session with this key went, if it did. Rejects where that cannot be found out. */
  read(key: string): Promise<SessionPlace | undefined>;
  /** Notes it, unless another gateway has: resolves to what is in force. Rejects where it cannot be noted. */
  write(key: string, to: SessionPlace): Promise<SessionPlace>;
  close(): void;
}

/** How a place is written down. */
export function placeText({ backend, upstreamId }: SessionPlace): string {
  return JSON.stringify([backend, upstreamId]);
}

/** The place that a text says; undefined for a text of another kind. */
export function placeOf(text: string): SessionPlace | undefined {
  const parsed: unknown = JSON.parse(text);
  return Array.isArray(parsed) && typeof parsed[0] === 'string' && typeof parsed[1] === 'string'
    ? { backend: parsed[0], upstreamId: parsed[1] }
    : undefined;
}
