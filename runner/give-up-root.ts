import { accessSync, constants, existsSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { OutriderError } from '#core/errors';
import { handOver } from '#core/hand-over';
import { removeStaleSockets } from '#core/http';
import { isRoot, uidOf } from '#core/mesh-user';
import { configuredPolicies, type PolicyFiles, type PolicySource } from '#policystore';
import type { RunnerConfig } from './config.ts';
import { runnerDirectory } from './launcher/directories.ts';

const { R_OK, W_OK, X_OK } = constants;

/** What is elsewhere for a runner that has given up root. */
export interface Unprivileged {
  readonly journal: string;
  /** For its sidecars: what root has compiled only root can read, so they keep compiled code for themselves. */
  readonly env: { readonly NODE_COMPILE_CACHE?: string };
}

/**
 * Where the policy comes from, made while this process may still read the keys of bundles and be given the note of their serials;
 * `files` reads directory or bundle for it later.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function policySource(config: RunnerConfig, files: PolicyFiles): PolicySource {
  const { policyKeys, policySerials, user } = config;
  const noted = policyKeys === undefined ? policySerials : handOver(policySerials, uidOf(user));
  return configuredPolicies('runner', { ...config, policySerials: noted }, () => files);
}

/**
 * The last that the runner does as root: hands its journal over, and removes sockets that a runner left which was root. Then it gives
 * root up, and makes sure that it can do the rest without. As any other user it does nothing.
 * @throws {OutriderError} CONFIG_INVALID with what the runner's user may not do
 */
export async function becomeUser(
  config: RunnerConfig,
  sidecarCommand: readonly string[],
  giveUpRoot: () => void,
): Promise<Unprivileged> {
  const { firstUid, uidCount, listen, localAssertion } = config;
  const user = uidOf(config.user);
  if (!isRoot() || user === 0) return { journal: config.journal, env: {} };
  if (user >= firstUid && user < firstUid + uidCount)
    throw new OutriderError(
      'CONFIG_INVALID',
      `runner.user ${user} is one of the sandboxes' uids: choose another`,
    );
  const journal = handOver(config.journal, user);
  await removeStaleSockets([listen, config.admin]);
  giveUpRoot();
  const may = (mode: number, path: string, what: string): void => {
    try {
      accessSync(path, mode);
    } catch (cause) {
      throw new OutriderError(
        'CONFIG_INVALID',
        `the runner's user ${user} ${what}. Change that, or set runner.user: 0 to stay root`,
        { cause },
      );
    }
  };
  may(W_OK | X_OK, dirname(journal), `may not write beside runner.journal, ${config.journal}`);
  if (listen.kind === 'unix')
    may(W_OK | X_OK, dirname(listen.path), `may not make the socket runner.listen, ${listen.path}`);
  if (existsSync(localAssertion))
    may(R_OK, localAssertion, `may not read runner.localAssertion, ${localAssertion}`);
  if (config.sharing === 'none')
    for (const file of sidecarCommand.filter((word) => isAbsolute(word)))
      may(R_OK, file, `may not read ${file}, and so cannot start sidecars`);
  return { journal, env: { NODE_COMPILE_CACHE: join(runnerDirectory(config), 'code') } };
}
