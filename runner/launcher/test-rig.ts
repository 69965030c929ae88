import { outriderArgv } from '#core/testing/outrider-argv';
import { LauncherClient } from './client.ts';

/** argv of a real launcher whose sandboxes have their directories in `directory`, which it makes and removes. */
export function launcherCommand(directory: string, options: readonly string[] = []): string[] {
  return [
    process.execPath,
    ...outriderArgv(),
    'launcher',
    '--policies',
    directory,
    '--sandbox-directory',
    directory,
    '--first-uid',
    String(FIRST_UID),
    '--uid-count',
    String(UID_COUNT),
    ...options,
  ];
}

/** For tests alone: starts one. */
export function startLauncher(
  directory: string,
  options: readonly string[] = [],
): Promise<LauncherClient> {
  return LauncherClient.start(launcherCommand(directory, options), process.env);
}

// A range for each test process, so that its sandboxes' processes can be told from any other's of this machine.
const UID_COUNT = 200;
export const FIRST_UID = 1_940_000_000 + (process.pid % 10_000) * UID_COUNT;
