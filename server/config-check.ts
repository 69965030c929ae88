import type { Address } from '#core/address';
import { OutriderError } from '#core/errors';
import type { ServerConfig } from './config.ts';

/** What no server could start with, as far as the configuration alone shows it. @throws {OutriderError} CONFIG_INVALID */
export function assertServerConfig({ runner }: ServerConfig): void {
  assertSomeRunner(runner);
}

/** @throws {OutriderError} CONFIG_INVALID */
export function assertSomeRunner(
  runners: readonly Address[],
): asserts runners is readonly [Address, ...Address[]] {
  if (runners.length === 0)
    throw new OutriderError('CONFIG_INVALID', 'server.runner must name a runner');
}
