/** Where a session is: a server, and that server's id of it. */
export interface SessionPlace {
  readonly backend: string;
  readonly upstreamId: string;
}

/** Where gateways tell each other of moved sessions, in texts that they alone can read. A key is written once and never changed. */
export interface MoveStore {
  /** What is noted under this key, if anything is. Rejects where that cannot be found out. */
  read(key: string): Promise<string | undefined>;
  /** Notes a text, unless another gateway has noted one: resolves to what is in force. Rejects where it cannot be noted. */
  write(key: string, text: string): Promise<string>;
  close(): void;
}
