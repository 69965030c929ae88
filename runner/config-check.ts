import { isLoopback } from '#core/address';
import { assertAll } from '#core/config-problems';
import { OutriderError } from '#core/errors';
import type { RunnerConfig } from './config.ts';

/** What no runner could start with, as far as the configuration alone shows it. @throws {OutriderError} CONFIG_INVALID with everything that is wrong */
export function assertRunnerConfig(config: RunnerConfig): void {
  assertAll(
    () => assertLocal('listen', config),
    () => assertLocal('tcp', config),
    () => assertSomeBackend(config),
    () => config['exchange.tokenFile'] !== undefined && proxyTlsPaths(config),
  );
}

/** @throws {OutriderError} CONFIG_INVALID */
export function assertSomeBackend({ backends }: Pick<RunnerConfig, 'backends'>): void {
  if (backends.length === 0)
    throw new OutriderError('CONFIG_INVALID', 'runner.backends must name at least one backend');
}

function assertLocal(key: 'listen' | 'tcp', config: RunnerConfig): void {
  const address = config[key];
  if (address && !isLoopback(address))
    throw new OutriderError(
      'CONFIG_INVALID',
      `runner.${key} must be a unix socket or a loopback address: mutual TLS between hosts is not in this version`,
    );
}

/** Certificate, key and authority for the way to the proxy, or none of them. @throws {OutriderError} CONFIG_INVALID */
export function proxyTlsPaths(config: RunnerConfig): readonly string[] {
  const paths = [config['proxyTls.cert'], config['proxyTls.key'], config['proxyTls.ca']];
  const given = paths.filter((path) => path !== undefined);
  if (given.length !== 0 && given.length !== paths.length)
    throw new OutriderError('CONFIG_INVALID', 'runner.proxyTls needs all of cert, key and ca');
  return given;
}
