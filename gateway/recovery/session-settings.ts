import type { Message } from '../relay/message.ts';

/** What a client has set in a session and a new server must be told again. */
export interface SessionSettings {
  readonly logLevel: string | undefined;
  readonly subscriptions: readonly string[];
}

const SESSIONS_MAX = 10_000;
const SUBSCRIPTIONS_MAX = 1_000;
const NONE: SessionSettings = { logLevel: undefined, subscriptions: [] };

/** Follows the settings of sessions through the messages that were answered, of the newest 10 000 sessions that have any. */
export class SettingsMemory {
  readonly #known = new Map<string, { logLevel: string | undefined; subscriptions: Set<string> }>();

  /** `id`: the session as its client knows it. */
  note(id: string, messages: readonly Message[]): void {
    for (const { method, params } of messages) {
      const { level, uri } = params;
      if (method === 'logging/setLevel' && typeof level === 'string') this.#of(id).logLevel = level;
      if (typeof uri !== 'string') continue;
      if (method === 'resources/unsubscribe') this.#of(id).subscriptions.delete(uri);
      if (method !== 'resources/subscribe') continue;
      const { subscriptions } = this.#of(id);
      if (subscriptions.size < SUBSCRIPTIONS_MAX) subscriptions.add(uri);
    }
  }

  settingsOf(id: string): SessionSettings {
    const found = this.#known.get(id);
    return found ? { logLevel: found.logLevel, subscriptions: [...found.subscriptions] } : NONE;
  }

  forget(id: string): void {
    this.#known.delete(id);
  }

  #of(id: string) {
    const settings = this.#known.get(id) ?? { logLevel: undefined, subscriptions: new Set() };
    this.#known.delete(id);
    this.#known.set(id, settings);
    const [oldest] = this.#known.keys();
    if (this.#known.size > SESSIONS_MAX && oldest !== undefined) this.#known.delete(oldest);
    return settings;
  }
}
