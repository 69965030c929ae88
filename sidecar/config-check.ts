import type { Address } from '#core/address';
import { assertAll } from '#core/config-problems';
import { OutriderError } from '#core/errors';
import type { SidecarConfig } from './config.ts';
import { proxyTlsFiles } from './proxy-tls.ts';

/** What no sidecar could start with, as far as the configuration alone shows it. @throws {OutriderError} CONFIG_INVALID with everything that is wrong */
export function assertSidecarConfig(config: SidecarConfig): void {
  assertAll(
    () => assertUnix(config.listen),
    () => proxyTlsFiles(config),
  );
}

/** @throws {OutriderError} CONFIG_INVALID */
export function assertUnix(listen: Address): asserts listen is Address & { kind: 'unix' } {
  if (listen.kind !== 'unix')
    throw new OutriderError(
      'CONFIG_INVALID',
      'sidecar.listen must be a unix socket: over TCP anybody on this machine could open doors',
    );
}
