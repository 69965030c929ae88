import { assertSectionKept, type ConfigOf, loadConfig, partUsage, type Spec } from './config.ts';
import { takeConfigFile } from './config-file.ts';
import { type OutriderError, toOutriderError } from './errors.ts';
import { compileSooner, releaseHeap } from './heap.ts';
import { endAtHangUp, untilSignal } from './lifecycle.ts';
import { createLogger, type Logger, type LogLevel } from './log.ts';
import { giveUpRoot, isRoot, type MeshUser, uidOf } from './mesh-user.ts';
import { reloadOnChange } from './reload.ts';
import { ensureRuntimeDir, runtimeDir, stateDir } from './runtime-dir.ts';

export type Env = Readonly<Record<string, string | undefined>>;

/** A part that runs. */
export interface RunningPart<C = unknown> {
  /** Where it can be reached, for the log; absent for one of many that come and go. */
  readonly address?: string | undefined;
  /** Ends it in order. Never rejects. */
  readonly stop: () => Promise<void>;
  /** Resolves when it has nothing left to do, rejects when it cannot go on; absent where only a signal ends it. */
  readonly over?: Promise<unknown> | undefined;
  /**
   * Takes another configuration while it runs, at SIGHUP or when the file has changed; absent where only a restart does that.
   * What it rejects changes nothing.
   */
  readonly reload?: ((config: C) => Promise<void>) | undefined;
}

/** What differs between the parts' processes. */
export interface Part<S extends Spec> {
  readonly name: string;
  /** The section of the configuration that it reads, where that is another part's. */
  readonly section?: string;
  readonly spec: (paths: { runtime: string; state: string }) => S;
  /** Known already: nothing is read. Of a worker, which has that of the process that started it. */
  readonly config?: ConfigOf<S> | undefined;
  /** As root: who the parts of the mesh become; absent for one that serves no other part. */
  readonly user?: (config: ConfigOf<S>) => MeshUser;
  /** It does not become that user, but shares the runtime directory with it. */
  readonly keepsRoot?: boolean;
  /**
   * Calls `giveUpRoot` as soon as it has what only root may open; where it does not, that is done when it has started. What it does after
   * that, it does as any user.
   */
  readonly start: (
    config: ConfigOf<S>,
    log: Logger,
    giveUpRoot: () => void,
  ) => Promise<RunningPart<ConfigOf<S>>>;
}

/**
 * The process of one part, from its arguments to its exit code: reads the configuration, starts, waits for a signal or for
 * the part to be over, stops in order. 0 after an orderly end; where it cannot start, the `exit` of the failure, with the reason as
 * one plain line on stderr, and its code where `exit` is not 1. Nothing goes to stdout but what `--help` asks for. The same where it cannot go on, after it was
 * stopped in order. Only a `main.ts` calls this.
 */
export async function runPart<
  S extends Spec & { readonly logLevel: { parse: (raw: unknown) => LogLevel } },
>(
  { name, section = name, spec, config: known, user, keepsRoot = false, start }: Part<S>,
  argv: readonly string[],
  env: Env,
): Promise<number> {
  let log = createLogger(name);
  try {
    const uid = process.getuid?.() ?? 0;
    const paths = { runtime: runtimeDir(env, uid), state: stateDir(env, uid) };
    if (argv.includes('--help')) {
      process.stdout.write(partUsage(name, spec(paths)));
      return 0;
    }
    const { argv: options, file } = takeConfigFile(argv);
    const config = known ?? loadConfig(section, spec(paths), { argv: options, env, file });
    log = createLogger(name, logLevelOf(config));
    const meshUid = user && isRoot() ? uidOf(user(config)) : 0;
    if (meshUid !== 0) ensureRuntimeDir(paths.runtime, meshUid);
    const become = (): void => {
      if (!keepsRoot) giveUpRoot(meshUid);
    };
    const starting = start(config, log, become).then(async (part) => {
      try {
        become();
        if (user && !keepsRoot && isRoot() && part.address !== undefined) log.warn(STAYS_ROOT);
        return part;
      } catch (error) {
        await part.stop();
        throw error;
      }
    });
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
    const { address, reload } = await starting;
    if (!reload) endAtHangUp();
    releaseHeap();
    compileSooner();
    if (address !== undefined) log.info('ready', { address });
    let last = file;
    const readAgain = async (): Promise<void> => {
      const now = takeConfigFile(argv);
      const next = loadConfig(section, spec(paths), { ...now, env });
      assertSectionKept(section, last, now.file);
      await reload?.(next);
      last = now.file;
    };
    const endReload = reload && reloadOnChange(file?.name, readAgain, log);
    await ended;
    endReload?.();
    if (failure) throw failure;
    return 0;
  } catch (thrown) {
    const error = toOutriderError(thrown);
    log.error('cannot run', { error });
    const { exit } = error.failure;
    const said = exit === 1 ? error.message : `${error.code}: ${error.message}`;
    process.stderr.write(`outrider ${name}: ${said}\n`);
    return exit;
  }
}

const STAYS_ROOT =
  'this process stays root: by its key `user`, or because only root can read this installation';

function logLevelOf(config: Readonly<Record<string, unknown>>): LogLevel {
  const level = config['logLevel'];
  return level === 'debug' || level === 'warn' || level === 'error' ? level : 'info';
}
