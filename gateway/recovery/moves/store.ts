/** Where a session is: a server, and that server's id of it. */
export interface SessionPlace {
  readonly backend: string;
  readonly upstreamId: string;
}

/** What each key begins with, and the name of each file. */
export const PREFIX = 'session';

/** What gateways tell all others as it happens. */
export const TOPICS = ['ended', 'settings'] as const;
export type Topic = (typeof TOPICS)[number];

/** Takes a text that some gateway told; one may come more than once. */
export type Hear = (topic: Topic, text: string) => void;

/** Where gateways tell each other of sessions, in texts that they alone can read. A key is written once and never changed. */
export interface SharedStore {
  /** What is noted under this key, if anything is. Rejects where that cannot be found out. */
  read(key: string): Promise<string | undefined>;
  /** Notes a text, unless another gateway has noted one: resolves to what is in force. Rejects where it cannot be noted. */
  write(key: string, text: string): Promise<string>;
  /** Tells all gateways, those that start later as well. Rejects where it cannot be told. */
  tell(topic: Topic, text: string): Promise<void>;
  /** Has `hear` hear what was told since it last heard anything, oldest first. Rejects where that cannot be found out. */
  catchUp(hear: Hear): Promise<void>;
  /** Does so in the background, as it is told, until the store is closed. `failed` is told why each time that it cannot. */
  follow(hear: Hear, failed: (error: unknown) => void): void;
  close(): void;
}
