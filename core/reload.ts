import { statSync } from 'node:fs';
import { toOutriderError } from './errors.ts';
import type { Logger } from './log.ts';

/** Two looks that agree come before a reload, so that a half-written file is left alone. */
const POLL_MS = 500;

/**
 * Calls `reload` at each SIGHUP, and within two seconds after `file` has changed. One runs at a time; what fails is logged and
 * changes nothing. Returns what ends it. Only a `main.ts` may let this be called: it handles a signal.
 */
export function reloadOnChange(
  file: string | undefined,
  reload: () => Promise<void>,
  log: Logger,
): () => void {
  let running = Promise.resolve();
  const begin = (): void => {
    running = running.then(async () => {
      try {
        await reload();
        log.info('the configuration was read again');
      } catch (thrown) {
        const error = toOutriderError(thrown);
        log.error('the configuration cannot be read again; the old one stays', {
          error,
          detail: { problems: error.message },
        });
      }
    });
  };
  let loaded = versionOf(file);
  let last = loaded;
  const timer = setInterval(() => {
    const seen = versionOf(file);
    if (seen === last && seen !== loaded) {
      loaded = seen;
      begin();
    }
    last = seen;
  }, POLL_MS).unref();
  process.on('SIGHUP', begin);
  return () => {
    clearInterval(timer);
    process.off('SIGHUP', begin);
  };
}

/** A file that this process may not look at has one version: it was root when it read it, and only a restart reads it again. */
function versionOf(file: string | undefined): string {
  try {
    const stat =
      file === undefined ? undefined : statSync(file, { bigint: true, throwIfNoEntry: false });
    return stat ? `${stat.ino}.${stat.size}.${stat.mtimeNs}` : 'absent';
  } catch {
    return 'closed to it';
  }
}
