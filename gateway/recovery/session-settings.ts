import type { Message } from '../relay/message.ts';
import type { News } from './news.ts';

/** What a client has set in a session and a new server must be told again. */
export interface SessionSettings {
  readonly logLevel: string | undefined;
  readonly subscriptions: readonly string[];
}

const SESSIONS_MAX = 10_000;
const SUBSCRIPTIONS_MAX = 1_000;
/** A longer one is not remembered: no server names its resources so. */
const SETTING_MAX_CHARACTERS = 2_048;
const NONE: SessionSettings = { logLevel: undefined, subscriptions: [] };

/** Whether a message sets what a new server must be told again. */
export function isSetting({ method }: Message): boolean {
  return SETTINGS.has(method);
}

const SETTINGS: ReadonlySet<unknown> = new Set([
  'logging/setLevel',
  'resources/subscribe',
  'resources/unsubscribe',
]);

/**
 * Follows the settings of sessions through the messages that servers accepted, those that other gateways tell of as well, of the newest
 * 10 000 sessions that have any.
 */
export class SettingsMemory {
  readonly #known = new Map<string, { logLevel: string | undefined; subscriptions: Set<string> }>();

  readonly #news: News | undefined;

  constructor(news?: News) {
    this.#news = news;
    news?.on('settings', (said) => this.#set(said));
  }

  /** `key`: what the session is known by. */
  note(key: string, messages: readonly Message[]): void {
    for (const { method, params } of messages) {
      const setting = [key, method, params[method === 'logging/setLevel' ? 'level' : 'uri']];
      if (this.#set(setting)) void this.#news?.tell('settings', setting);
    }
  }

  /** Whether that is a setting. */
  #set([key, method, value]: readonly unknown[]): boolean {
    if (typeof key !== 'string' || typeof value !== 'string') return false;
    if (value.length > SETTING_MAX_CHARACTERS) return false;
    if (method === 'logging/setLevel') this.#of(key).logLevel = value;
    else if (method === 'resources/unsubscribe') this.#of(key).subscriptions.delete(value);
    else if (method === 'resources/subscribe') {
      const { subscriptions } = this.#of(key);
      if (subscriptions.size < SUBSCRIPTIONS_MAX) subscriptions.add(value);
    } else return false;
    return true;
  }

  settingsOf(key: string): SessionSettings {
    const found = this.#known.get(key);
    return found ? { logLevel: found.logLevel, subscriptions: [...found.subscriptions] } : NONE;
  }

  forget(key: string): void {
    this.#known.delete(key);
  }

  #of(key: string) {
    const settings = this.#known.get(key) ?? { logLevel: undefined, subscriptions: new Set() };
    this.#known.delete(key);
    this.#known.set(key, settings);
    const [oldest] = this.#known.keys();
    if (this.#known.size > SESSIONS_MAX && oldest !== undefined) this.#known.delete(oldest);
    return settings;
  }
}
