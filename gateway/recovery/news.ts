import { OutriderError } from '#core/errors';
import type { KeyRing } from '../sessions/key-ring.ts';
import { openText, sealText } from '../sessions/seal.ts';
import type { Hear, SharedStore, Topic } from './moves/store.ts';

const KIND = 'outrider:news';

/** What gateways that share a store tell each other as it happens: sealed with the keys of sessions, so that nobody else can tell them anything. */
export interface News {
  /** Tells the others. Never rejects: while the store is away they do not hear of it. */
  tell(topic: Topic, said: readonly unknown[]): Promise<void>;
  /** From `start` on `hear` is told what any gateway has told, this one included; before, too, and some of it more than once. */
  on(topic: Topic, hear: (said: readonly unknown[]) => void): void;
  /** Resolves when what was told until now was heard, or cannot be. */
  catchUp(): Promise<void>;
  /** The same, and goes on hearing in the background. */
  start(): Promise<void>;
}

/** Without a store nobody is told. `storeFailed` is told why, each time that the store was of no use. */
export function createNews(
  store: SharedStore | undefined,
  ring: () => KeyRing,
  storeFailed: (error: unknown) => void,
): News {
  const hearers: Partial<Record<Topic, (said: readonly unknown[]) => void>> = {};
  const hear: Hear = (topic, text) => {
    const opened = openText(text, KIND, [topic], ring());
    if (typeof opened === 'string') {
      storeFailed(unreadable(opened));
      return;
    }
    const said: unknown = JSON.parse(opened.text);
    if (Array.isArray(said)) hearers[topic]?.(said);
  };
  const catchUp = async (): Promise<void> => {
    try {
      await store?.catchUp(hear);
    } catch (error) {
      storeFailed(error);
    }
  };
  return {
    catchUp,
    async tell(topic, said) {
      try {
        await store?.tell(topic, sealText(JSON.stringify(said), KIND, [topic], ring()));
      } catch (error) {
        storeFailed(error);
      }
    },
    on(topic, heard) {
      hearers[topic] = heard;
    },
    async start() {
      await catchUp();
      store?.follow(hear, storeFailed);
    },
  };
}

function unreadable(cause: string): OutriderError {
  return new OutriderError(
    'CONFIG_INVALID',
    'what a gateway told cannot be read: gateways that share recoveryRedis or recoveryDirectory have the same sessionKeys',
    { cause },
  );
}
