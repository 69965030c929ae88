import { type ConfigOf, loadConfig, type Spec } from './config.ts';
import { takeConfigFile } from './config-file.ts';
import { type OutriderError, toOutriderError } from './errors.ts';
import { untilSignal } from './lifecycle.ts';
import { createLogger, type Logger, type LogLevel } from './log.ts';
import { runtimeDir, stateDir } from './runtime-dir.ts';

export type Env = Readonly<Record<string, string | undefined>>;

/** A part that runs. */
export interface RunningPart {
  /** Where it can be reached, for the log; absent for one of many that come and go. */
  readonly address?: string | undefined;
  /** Ends it in order. Never rejects. */
  readonly stop: () => Promise<void>;
  /** Resolves when it has nothing left to do, rejects when it cannot go on; absent where only a signal ends it. */
  readonly over?: Promise<unknown> | undefined;
}

/** What differs between the parts' processes. */
export interface Part<S extends Spec> {
  readonly name: string;
  /** The section of the configuration that it reads, where that is another part's. */
  readonly section?: string;
  readonly spec: (paths: { runtime: string; state: string }) => S;
  readonly start: (config: ConfigOf<S>, log: Logger) => Promise<RunningPart>;
}

/**
 * The process of one part, from its arguments to its exit code: reads the configuration, starts, waits for a signal or for
 * the part to be over, stops in order. 0 after an orderly end; 1 where it cannot start, with the reason as one plain line on
 * stderr. Nothing goes to stdout. The same where it cannot go on, after it was stopped in order. Only a `main.ts` calls this.
 */
export async function runPart<
  S extends Spec & { readonly logLevel: { parse: (raw: unknown) => LogLevel } },
>(
  { name, section = name, spec, start }: Part<S>,
  argv: readonly string[],
  env: Env,
): Promise<number> {
  let log = createLogger(name);
  try {
    const uid = process.getuid?.() ?? 0;
    const paths = { runtime: runtimeDir(env, uid), state: stateDir(env, uid) };
    const { argv: options, file } = takeConfigFile(argv);
    const config = loadConfig(section, spec(paths), { argv: options, env, file });
    log = createLogger(name, logLevelOf(config));
    const starting = start(config, log);
    // Before it has started: a signal that comes meanwhile must end what there is by then in order, too.
    let failure: OutriderError | undefined;
    const over = starting.then(
      (part) =>
        (part.over ?? new Promise<never>(() => {})).catch((error: unknown) => {
          failure = toOutriderError(error);
        }),
      () => {},
    );
    const ended = untilSignal(async () => {
      const part = await starting.catch(() => undefined);
      await part?.stop();
    }, over);
    const { address } = await starting;
    if (address !== undefined) log.info('ready', { address });
    await ended;
    if (failure) throw failure;
    return 0;
  } catch (thrown) {
    const error = toOutriderError(thrown);
    log.error('cannot run', { error });
    process.stderr.write(`outrider ${name}: ${error.message}\n`);
    return 1;
  }
}

function logLevelOf(config: Readonly<Record<string, unknown>>): LogLevel {
  const level = config['logLevel'];
  return level === 'debug' || level === 'warn' || level === 'error' ? level : 'info';
}
